#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/io/element_count.hpp"

namespace flowmatch { inline namespace v0 {

/// A dtype as .npy files name it.
struct NpyType {
  std::string_view descr;  ///< such as <f4
  std::size_t bytes;       ///< of an element
};
/// float32, float64, uint8, int64: the types that are read and written.
inline constexpr std::array<NpyType, 4> npy_types{{{"<f4", 4}, {"<f8", 8}, {"|u1", 1}, {"<i8", 8}}};

/// What a .npy file says of itself.
struct NpyHeader {
  std::size_t type = 0;             ///< which of `npy_types`
  std::vector<std::int64_t> shape;  ///< as NumPy has it
  std::string_view values;          ///< a view of the bytes that were given
};

/// Reads the header of a .npy file (format 1.0, C order, little-endian) without LibTorch. Sizes are
/// checked against the bytes, and nothing is allocated for the values. Throws DataError for
/// anything that is not such a file of a supported type.
inline NpyHeader parse_npy_header(std::string_view bytes, const std::string& name) {
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
  const auto type = std::find_if(npy_types.begin(), npy_types.end(), [&](const auto& known) {
    return descr.substr(0, 5) == "'" + std::string(known.descr) + "'";
  });
  if (type == npy_types.end()) throw bad("its type is none of float32, float64, uint8 and int64");
  if (value_of("fortran_order").substr(0, 5) != "False")
    throw bad("it is in Fortran order; save a C-ordered copy");

  std::string_view list = value_of("shape");
  if (list.empty() || list[0] != '(' || list.find(')') == std::string_view::npos)
    throw bad("its shape is no tuple");
  list = list.substr(1, list.find(')') - 1);
  std::vector<std::int64_t> shape;
  while (list.find_first_not_of(", ") != std::string_view::npos) {
    list.remove_prefix(list.find_first_not_of(", "));
    std::int64_t size = -1;
    const auto [end, error] = std::from_chars(list.data(), list.data() + list.size(), size);
    if (error != std::errc{} || size < 0 || shape.size() == 16)
      throw bad("its shape has a size that is no count");
    list.remove_prefix(static_cast<std::size_t>(end - list.data()));
    shape.push_back(size);
  }
  const std::optional<std::uint64_t> count = element_count(shape);
  if (!count) throw bad("its shape overflows");
  if (*count * type->bytes != data.size()) {
    throw bad("its header declares " + std::to_string(*count * type->bytes) +
              " bytes of data, it holds " + std::to_string(data.size()));
  }
  return {static_cast<std::size_t>(type - npy_types.begin()), shape, data};
}

}}  // namespace flowmatch
