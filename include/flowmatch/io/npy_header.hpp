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

/// A type of numbers as NumPy spells it, '<' for little-endian and '|' where that means nothing.
struct NpyType {
  std::string_view descr;  ///< such as <f4
  std::size_t bytes;       ///< of an element
};
/// The types that are read and written: floats, whole numbers, bools, complex numbers.
inline constexpr std::array<NpyType, 14> npy_types{{{"<f4", 4},
                                                    {"<f8", 8},
                                                    {"<f2", 2},
                                                    {"|u1", 1},
                                                    {"<u2", 2},
                                                    {"<u4", 4},
                                                    {"<u8", 8},
                                                    {"|i1", 1},
                                                    {"<i2", 2},
                                                    {"<i4", 4},
                                                    {"<i8", 8},
                                                    {"|b1", 1},
                                                    {"<c8", 8},
                                                    {"<c16", 16}}};

/// The most dimensions of an array that are read and written, which are NumPy's.
inline constexpr std::size_t npy_dimensions = 64;

/// What a .npy file says of itself.
struct NpyHeader {
  std::size_t type = 0;               ///< which of `npy_types`
  bool big_endian = false;            ///< every number's bytes stand in the other order
  bool fortran_order = false;         ///< the first index runs fastest, not the last
  std::vector<std::int64_t> shape{};  ///< as NumPy has it
  std::string_view values{};          ///< a view of the bytes that were given
};

namespace detail {

/// Walks through the dict of Python that a header is: {'descr': '<f4', 'shape': (2, 3), }
class NpyDict {
 public:
  explicit NpyDict(std::string_view text) : text_(text) {}

  bool accept(char c) {
    text_.remove_prefix(std::min(text_.find_first_not_of(" \t\r\n"), text_.size()));
    if (text_.empty() || text_[0] != c) return false;
    text_.remove_prefix(1);
    return true;
  }
  void expect(char c, const char* what) {
    if (!accept(c)) throw DataError(what);
  }
  /// In either kind of quotes.
  std::string_view quoted(const char* what) {
    const char quote = accept('\'') ? '\'' : '"';
    const std::size_t end =
        quote == '\'' || accept('"') ? text_.find(quote) : std::string_view::npos;
    if (end == std::string_view::npos) throw DataError(what);
    const std::string_view word = text_.substr(0, end);
    text_.remove_prefix(end + 1);
    return word;
  }
  bool boolean() {
    accept(' ');
    for (const std::string_view word : {"True", "False"}) {
      if (text_.substr(0, word.size()) != word) continue;
      text_.remove_prefix(word.size());
      return word == "True";
    }
    throw DataError("its 'fortran_order' is neither True nor False");
  }
  std::vector<std::int64_t> tuple() {
    std::vector<std::int64_t> sizes;
    if (text_.find(')') == std::string_view::npos) throw DataError("its shape is no tuple");
    expect('(', "its shape is no tuple");
    while (!accept(')')) {
      std::int64_t size = -1;
      const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), size);
      if (error != std::errc{} || size < 0)
        throw DataError("its shape has a size that is no count");
      if (sizes.size() == npy_dimensions) {
        throw DataError("its shape has more than " + std::to_string(npy_dimensions) +
                        " dimensions; reshape it before it is written");
      }
      text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
      accept('L');  // Python 2's long numbers
      sizes.push_back(size);
      if (!accept(',')) {
        expect(')', "its shape has a size that is no count");
        break;
      }
    }
    return sizes;
  }
  void end() {
    accept(' ');
    if (!text_.empty()) throw DataError("its header goes on behind its end");
  }

 private:
  std::string_view text_;
};

/// '<f4', '>f4', '=f4' (this machine's order), 'f4'
inline void read_npy_type(std::string_view descr, NpyHeader& header) {
  std::string_view code = descr;
  if (!code.empty() && std::string_view("<>=|").find(code[0]) != std::string_view::npos)
    code.remove_prefix(1);
  const auto* const type =
      std::find_if(npy_types.begin(), npy_types.end(),
                   [&](const NpyType& known) { return known.descr.substr(1) == code; });
  if (code == "O") throw DataError("it holds Python objects; save numbers");
  if (type == npy_types.end()) {
    throw DataError("its type '" + std::string(descr) +
                    "' is none of floats up to 64 bits, whole numbers, bools and complex numbers; "
                    "convert it first");
  }
  header.type = static_cast<std::size_t>(type - npy_types.begin());
  header.big_endian = descr[0] == '>' && type->bytes > 1;
}

inline NpyHeader read_npy_header(std::string_view bytes) {
  if (bytes.size() < 10 || bytes.substr(0, 6) != "\x93NUMPY")
    throw DataError("it does not begin with NumPy's magic bytes");
  // Versions 2.0 and 3.0 have four bytes for the header's length, and 3.0 UTF-8 in it.
  const int version = bytes[6];
  if (version < 1 || version > 3)
    throw DataError("its format version is none of 1, 2 and 3; write it with numpy.save");
  const std::size_t begin = version == 1 ? 10 : 12;
  std::size_t length = 0;
  for (std::size_t i = begin; i > 8 && i <= bytes.size(); --i)
    length = length << 8U | static_cast<unsigned char>(bytes[i - 1]);
  if (bytes.size() < begin || bytes.size() - begin < length)
    throw DataError("it ends within its header");

  NpyHeader header;
  NpyDict dict(bytes.substr(begin, length));
  std::vector<std::string_view> keys;
  dict.expect('{', "its header is no dict");
  while (!dict.accept('}')) {
    const std::string_view key = dict.quoted("its header is no dict");
    dict.expect(':', "its header is no dict");
    if (std::find(keys.begin(), keys.end(), key) != keys.end())
      throw DataError("its header has '" + std::string(key) + "' twice");
    keys.push_back(key);
    if (key == "descr") {
      if (dict.accept('[')) throw DataError("its elements are structures; save one field of them");
      read_npy_type(dict.quoted("its type is no text"), header);
    } else if (key == "fortran_order") {
      header.fortran_order = dict.boolean();
    } else if (key == "shape") {
      header.shape = dict.tuple();
    } else {
      throw DataError("its header has an unknown '" + std::string(key) + "'");
    }
    if (!dict.accept(',')) {
      dict.expect('}', "its header is no dict");
      break;
    }
  }
  dict.end();
  for (const std::string_view key : {"descr", "fortran_order", "shape"}) {
    if (std::find(keys.begin(), keys.end(), key) == keys.end())
      throw DataError("its header has no '" + std::string(key) + "'");
  }
  header.values = bytes.substr(begin + length);
  const std::optional<std::uint64_t> count = element_count(header.shape);
  const std::size_t element = npy_types[header.type].bytes;
  if (!count || *count > INT64_MAX / element) throw DataError("its shape overflows");
  if (*count * element != header.values.size()) {
    throw DataError("its header declares " + std::to_string(*count * element) +
                    " bytes of data, it holds " + std::to_string(header.values.size()));
  }
  return header;
}

}  // namespace detail

/// Reads the header of a .npy file without LibTorch. Sizes are checked against the bytes, and
/// nothing is allocated for the values. Throws DataError for anything that is not such a file of a
/// supported type.
inline NpyHeader parse_npy_header(std::string_view bytes, const std::string& name) {
  try {
    return detail::read_npy_header(bytes);
  } catch (const DataError& error) {
    throw DataError(name + " is not a usable .npy file: " + error.what());
  }
}

}}  // namespace flowmatch
