#pragma once

#include <ATen/Functions.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <ios>
#include <ostream>
#include <string>
#include <string_view>

#include "flowmatch/core/error.hpp"
#include "flowmatch/io/npy_header.hpp"
#include "flowmatch/io/read_file.hpp"
#include "flowmatch/io/write_file.hpp"

/// NumPy's .npy files (format 1.0, C order, little-endian) of float32, float64, uint8 and int64.

namespace flowmatch { inline namespace v0 {

namespace detail {

/// In the order of `npy_types`.
inline constexpr std::array<at::ScalarType, npy_types.size()> npy_dtypes{at::kFloat, at::kDouble,
                                                                         at::kByte, at::kLong};

}  // namespace detail

/// Writes a tensor, under a temporary name first, so that an older file survives a failure. Throws
/// DataError for other dtypes and where the file can't be written.
inline void save_npy(const std::filesystem::path& path, const at::Tensor& tensor) {
  const auto type =
      std::find(detail::npy_dtypes.begin(), detail::npy_dtypes.end(), tensor.scalar_type());
  if (type == detail::npy_dtypes.end()) {
    throw DataError(std::string("a .npy file of ") + toString(tensor.scalar_type()) +
                    " is not supported; convert to float32, float64, uint8 or int64 first");
  }
  std::string shape;
  for (const std::int64_t size : tensor.sizes()) shape += std::to_string(size) + ", ";
  if (tensor.dim() > 1) shape.resize(shape.size() - 2);
  const auto descr = npy_types[static_cast<std::size_t>(type - detail::npy_dtypes.begin())].descr;
  std::string header =
      "{'descr': '" + std::string(descr) + "', 'fortran_order': False, 'shape': (" + shape + "), }";
  header.append(63 - (10 + header.size()) % 64, ' ');  // data begins at a multiple of 64
  header += '\n';

  const at::Tensor data = tensor.detach().cpu().contiguous();
  write_file<DataError>(path, [&](std::ostream& file) {
    file << "\x93NUMPY" << '\x01' << '\0' << static_cast<char>(header.size() & 0xFFU)
         << static_cast<char>(header.size() >> 8U) << header;
    file.write(static_cast<const char*>(data.const_data_ptr()),
               static_cast<std::streamsize>(data.nbytes()));
  });
}

/// Reads an array from the bytes of a .npy file. Sizes are checked against the bytes before
/// anything is allocated. Throws DataError for anything that is not such a file of a supported
/// type.
inline at::Tensor parse_npy(std::string_view bytes, const std::string& name) {
  const NpyHeader header = parse_npy_header(bytes, name);
  at::Tensor tensor = at::empty(header.shape, detail::npy_dtypes[header.type]);
  if (!header.values.empty())
    std::memcpy(tensor.mutable_data_ptr(), header.values.data(), header.values.size());
  return tensor;
}

/// Reads a .npy file. Throws DataError where it is missing or not usable.
inline at::Tensor load_npy(const std::filesystem::path& path) {
  return parse_npy(read_file<DataError>(path), path.string());
}

}}  // namespace flowmatch
