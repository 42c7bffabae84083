#pragma once

#include <ATen/Functions.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <ios>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/io/npy_header.hpp"
#include "flowmatch/io/read_file.hpp"
#include "flowmatch/io/tensor_values.hpp"
#include "flowmatch/io/write_file.hpp"

/// NumPy's .npy files (formats 1.0 to 3.0) of floats, whole numbers, bools and complex numbers.

namespace flowmatch { inline namespace v0 {

namespace detail {

/// In the order of `npy_types`.
inline constexpr std::array<at::ScalarType, npy_types.size()> npy_dtypes{
    at::kFloat,  at::kDouble, at::kHalf,         at::kByte,         at::kUInt16,
    at::kUInt32, at::kUInt64, at::kChar,         at::kShort,        at::kInt,
    at::kLong,   at::kBool,   at::kComplexFloat, at::kComplexDouble};
static_assert(std::endian::native == std::endian::little, "the values are copied as they are");

/// The header's shape around values, which are its own or `make(shape, options)` of its memory's
/// shape. Fortran order becomes a transposed view.
template <class F>
at::Tensor npy_tensor(const NpyHeader& header, const std::string& name, F&& make) {
  const at::ScalarType dtype = npy_dtypes[header.type];
  if (dtype == at::kBool && !are_truth_values(header.values))
    throw DataError(name + " is of bools with values other than 0 and 1; save it as uint8");
  std::vector<std::int64_t> shape = header.shape;
  if (header.fortran_order) std::reverse(shape.begin(), shape.end());
  const at::Tensor values =
      header.values.empty() ? at::empty(shape, dtype) : make(shape, at::dtype(dtype));
  return header.fortran_order ? values.permute([&] {
    std::vector<std::int64_t> dims;
    for (std::int64_t d = values.dim(); d > 0; --d) dims.push_back(d - 1);
    return dims;
  }())
                              : values;
}

}  // namespace detail

/// Writes a tensor in C order, under a temporary name first, so that an older file survives a
/// failure. Throws DataError for what NumPy has no type for (bfloat16, float8, sparse and quantised
/// tensors), more than 64 dimensions, and where the file can't be written.
inline void save_npy(const std::filesystem::path& path, const at::Tensor& tensor) {
  const auto* const type =
      has_plain_values(tensor)
          ? std::find(detail::npy_dtypes.begin(), detail::npy_dtypes.end(), tensor.scalar_type())
          : detail::npy_dtypes.end();
  if (type == detail::npy_dtypes.end()) {
    throw DataError(
        "a .npy file of " +
        (tensor.defined() ? tensor.toString() : std::string("an undefined tensor")) +
        " is not supported; convert to a dense tensor of a type that NumPy has, such as "
        "float32, first");
  }
  if (tensor.dim() > static_cast<std::int64_t>(npy_dimensions)) {
    throw DataError("a .npy file of " + std::to_string(tensor.dim()) +
                    " dimensions is not supported; reshape to at most " +
                    std::to_string(npy_dimensions) + " first");
  }
  std::string shape;
  for (const std::int64_t size : tensor.sizes()) shape += std::to_string(size) + ", ";
  if (tensor.dim() > 1) shape.resize(shape.size() - 2);
  const auto descr = npy_types[static_cast<std::size_t>(type - detail::npy_dtypes.begin())].descr;
  std::string header =
      "{'descr': '" + std::string(descr) + "', 'fortran_order': False, 'shape': (" + shape + "), }";
  header.append(63 - (10 + header.size()) % 64, ' ');  // data begins at a multiple of 64
  header += '\n';

  const at::Tensor data = plain_values(tensor).contiguous();
  write_file<DataError>(path, [&](std::ostream& file) {
    file << "\x93NUMPY" << '\x01' << '\0' << static_cast<char>(header.size() & 0xFFU)
         << static_cast<char>(header.size() >> 8U) << header;
    file.write(static_cast<const char*>(data.const_data_ptr()),
               static_cast<std::streamsize>(data.nbytes()));
  });
}

/// Reads an array from the bytes of a .npy file into a contiguous tensor; of Fortran-ordered and
/// big-endian ones the values are put in order. Sizes are checked against the bytes before anything
/// is allocated. Throws DataError for anything that is not such a file of a supported type.
inline at::Tensor parse_npy(std::string_view bytes, const std::string& name) {
  const NpyHeader header = parse_npy_header(bytes, name);
  const auto copy = [&](at::IntArrayRef shape, const at::TensorOptions& options) {
    at::Tensor tensor = at::empty(shape, options);
    char* const begin = static_cast<char*>(tensor.mutable_data_ptr());
    std::memcpy(begin, header.values.data(), header.values.size());
    // Of a complex number each part.
    const std::size_t width =
        static_cast<std::size_t>(tensor.element_size()) / (tensor.is_complex() ? 2 : 1);
    for (std::size_t i = 0; header.big_endian && i < header.values.size(); i += width)
      std::reverse(begin + i, begin + i + width);
    return tensor;
  };
  return detail::npy_tensor(header, name, copy).contiguous();
}

/// Reads a .npy file. Throws DataError where it is missing or not usable.
inline at::Tensor load_npy(const std::filesystem::path& path) {
  return parse_npy(read_file<DataError>(path), path.string());
}

}}  // namespace flowmatch
