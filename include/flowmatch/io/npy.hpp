#pragma once

#include <ATen/Functions.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/read_file.hpp"

/// NumPy's .npy files (format 1.0, C order, little-endian) of float32, float64, uint8 and int64.

namespace flowmatch::inline v0 {

namespace detail {

struct NpyType {
  at::ScalarType dtype;
  std::string_view descr;
  std::size_t bytes;
};
inline constexpr std::array<NpyType, 4> npy_types{{{at::kFloat, "<f4", 4},
                                                   {at::kDouble, "<f8", 8},
                                                   {at::kByte, "|u1", 1},
                                                   {at::kLong, "<i8", 8}}};

}  // namespace detail

/// Writes a tensor, under a temporary name first, so that an older file survives a failure. Throws
/// DataError for other dtypes and where the file can't be written.
inline void save_npy(const std::filesystem::path& path, const at::Tensor& tensor) {
  const auto type =
      std::find_if(detail::npy_types.begin(), detail::npy_types.end(),
                   [&](const auto& known) { return known.dtype == tensor.scalar_type(); });
  if (type == detail::npy_types.end()) {
    throw DataError(std::string("a .npy file of ") + toString(tensor.scalar_type()) +
                    " is not supported; convert to float32, float64, uint8 or int64 first");
  }
  std::string shape;
  for (const std::int64_t size : tensor.sizes()) shape += std::to_string(size) + ", ";
  if (tensor.dim() > 1) shape.resize(shape.size() - 2);
  std::string header = "{'descr': '" + std::string(type->descr) +
                       "', 'fortran_order': False, 'shape': (" + shape + "), }";
  header.append(63 - (10 + header.size()) % 64, ' ');  // data begins at a multiple of 64
  header += '\n';

  const at::Tensor data = tensor.detach().cpu().contiguous();
  std::filesystem::path temporary = path;
  temporary += ".writing";
  std::ofstream file(temporary, std::ios::binary);
  file << "\x93NUMPY" << '\x01' << '\0' << static_cast<char>(header.size() & 0xFFU)
       << static_cast<char>(header.size() >> 8U) << header;
  file.write(static_cast<const char*>(data.const_data_ptr()),
             static_cast<std::streamsize>(data.nbytes()));
  file.close();
  std::error_code error;
  if (file) std::filesystem::rename(temporary, path, error);
  if (!file || error) {
    std::filesystem::remove(temporary, error);
    throw DataError("cannot write " + path.string() +
                    "; check that the folder exists, is writable and has room");
  }
}

/// Reads an array from the bytes of a .npy file. Sizes are checked against the bytes before
/// anything is allocated. Throws DataError for anything that is not such a file of a supported
/// type.
inline at::Tensor parse_npy(std::string_view bytes, const std::string& name) {
  const auto bad = [&](const std::string& what) {
    return DataError(name + " is not a usable .npy file: " + what);
  };
  if (bytes.size() < 10 || bytes.substr(0, 6) != "\x93NUMPY")
    throw bad("it does not begin with NumPy's magic bytes");
  if (bytes[6] != 1) throw bad("its format version is not 1; write it with numpy.save");
  const std::size_t length =
      static_cast<unsigned char>(bytes[8]) + 256U * static_cast<unsigned char>(bytes[9]);
  if (bytes.size() < 10 + length) throw bad("it ends within its header");
  const std::string_view header = bytes.substr(10, length);
  const std::string_view data = bytes.substr(10 + length);

  const auto value_of = [&](std::string_view key) {
    const std::size_t at = header.find("'" + std::string(key) + "':");
    if (at == std::string_view::npos) throw bad("its header has no '" + std::string(key) + "'");
    std::string_view value = header.substr(at + key.size() + 3);
    value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
    return value;
  };
  const std::string_view descr = value_of("descr");
  const auto type =
      std::find_if(detail::npy_types.begin(), detail::npy_types.end(), [&](const auto& known) {
        return descr.substr(0, 5) == "'" + std::string(known.descr) + "'";
      });
  if (type == detail::npy_types.end())
    throw bad("its type is none of float32, float64, uint8 and int64");
  if (value_of("fortran_order").substr(0, 5) != "False")
    throw bad("it is in Fortran order; save a C-ordered copy");

  std::string_view list = value_of("shape");
  if (list.empty() || list[0] != '(' || list.find(')') == std::string_view::npos)
    throw bad("its shape is no tuple");
  list = list.substr(1, list.find(')') - 1);
  std::vector<std::int64_t> shape;
  std::uint64_t count = 1;
  while (list.find_first_not_of(", ") != std::string_view::npos) {
    list.remove_prefix(list.find_first_not_of(", "));
    std::int64_t size = -1;
    const auto [end, error] = std::from_chars(list.data(), list.data() + list.size(), size);
    if (error != std::errc{} || size < 0 || shape.size() == 16)
      throw bad("its shape has a size that is no count");
    list.remove_prefix(static_cast<std::size_t>(end - list.data()));
    // Zeros are left out, so that (0, 2^62, 2^62) is refused too: its strides would overflow.
    const auto factor = static_cast<std::uint64_t>(std::max<std::int64_t>(size, 1));
    if (count > std::numeric_limits<std::int64_t>::max() / 8 / factor) {
      throw bad("its shape overflows");
    }
    count *= factor;
    shape.push_back(size);
  }
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) count = 0;
  if (count * type->bytes != data.size()) {
    throw bad("its header declares " + std::to_string(count * type->bytes) +
              " bytes of data, it holds " + std::to_string(data.size()));
  }
  at::Tensor tensor = at::empty(shape, type->dtype);
  if (!data.empty()) std::memcpy(tensor.mutable_data_ptr(), data.data(), data.size());
  return tensor;
}

/// Reads a .npy file. Throws DataError where it is missing or not usable.
inline at::Tensor load_npy(const std::filesystem::path& path) {
  return parse_npy(read_file<DataError>(path), path.string());
}

}  // namespace flowmatch::inline v0
