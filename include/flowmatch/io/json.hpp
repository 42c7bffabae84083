#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

#include "flowmatch/core/error.hpp"

/// The little of JSON (RFC 8259) that the headers of files hold: objects, strings, whole numbers.

namespace flowmatch { inline namespace v0 {

/// Whether it is UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF.
inline bool is_utf8(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  for (std::size_t i = 0; i < text.size();) {
    const unsigned char first = byte(i);
    std::size_t length = 1;
    if (first >= 0x80) {
      if (first < 0xC2 || first > 0xF4) return false;
      length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    }
    if (length > text.size() - i) return false;
    for (std::size_t k = 1; k < length; ++k) {
      if ((byte(i + k) & 0xC0U) != 0x80U) return false;
    }
    if ((first == 0xE0 && byte(i + 1) < 0xA0) || (first == 0xED && byte(i + 1) > 0x9F) ||
        (first == 0xF0 && byte(i + 1) < 0x90) || (first == 0xF4 && byte(i + 1) > 0x8F)) {
      return false;
    }
    i += length;
  }
  return true;
}

/// A string as JSON writes it. Throws DataError for what is not UTF-8.
inline std::string json_string(std::string_view value) {
  if (!is_utf8(value)) throw DataError("a text is not UTF-8; encode it so");
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text = "\"";
  for (const char c : value) {
    const auto code = static_cast<unsigned char>(c);
    if (code < 0x20) {
      text += "\\u00";
      text += digits[code / 16U];
      text += digits[code % 16U];
    } else {
      if (c == '"' || c == '\\') text += '\\';
      text += c;
    }
  }
  return text + '"';
}

/// Walks through a text of JSON that must be UTF-8. What is not as it is asked for is a DataError
/// that says where.
class JsonReader {
 public:
  /// Reads `text`, which has to stay.
  explicit JsonReader(std::string_view text) : text_(text) {}

  /// {"key": value, …}: calls value(key), which reads it, at each.
  template <class F>
  void object(F&& value) {
    expect('{');
    if (accept('}')) return;
    do {
      const std::string key = string();
      expect(':');
      value(key);
    } while (accept(','));
    expect('}');
  }
  /// [1, 2, …]: calls value(number) for each.
  template <class F>
  void numbers(F&& value) {
    expect('[');
    if (accept(']')) return;
    do {
      value(number());
    } while (accept(','));
    expect(']');
  }
  /// A string, its escapes resolved, as UTF-8.
  std::string string() {
    expect('"');
    std::string value;
    while (true) {
      if (at_ == text_.size()) throw missing("end of a string");
      const char c = text_[at_++];
      if (c == '"') return value;
      if (static_cast<unsigned char>(c) < 0x20) throw missing("escape for a control character");
      if (c == '\\') {
        unescape(value);
      } else {
        value += c;
      }
    }
  }
  /// From 0 to the largest int64.
  std::int64_t number() {
    skip_space();
    std::int64_t value = -1;
    const char* const begin = text_.data() + at_;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value);
    if (error != std::errc{} || *begin == '-' || (*begin == '0' && end != begin + 1))
      throw missing("whole number below 2^63");
    at_ += static_cast<std::size_t>(end - begin);
    return value;
  }
  /// Throws where anything but white space is left.
  void end() {
    skip_space();
    if (at_ != text_.size()) throw missing("end");
  }

 private:
  DataError missing(const std::string& what) const {
    return DataError("its JSON has no " + what + " at byte " + std::to_string(at_));
  }
  void skip_space() {
    while (at_ < text_.size() &&
           std::string_view(" \n\r\t").find(text_[at_]) != std::string_view::npos) {
      ++at_;
    }
  }
  /// Whether c comes next, which is then passed.
  bool accept(char c) {
    skip_space();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) throw missing(std::string("'") + c + "'");
  }
  std::uint32_t four_digits() {
    std::uint32_t code = 0;
    const std::string_view digits = text_.substr(at_, 4);
    const char* const last = digits.data() + digits.size();
    const auto [end, error] = std::from_chars(digits.data(), last, code, 16);
    if (digits.size() < 4 || error != std::errc{} || end != last)
      throw missing("four hexadecimal digits");
    at_ += 4;
    return code;
  }
  void unescape(std::string& value) {
    constexpr std::string_view escapes = "\"\\/bfnrt";
    constexpr std::string_view meanings = "\"\\/\b\f\n\r\t";
    if (at_ == text_.size()) throw missing("end of a string");
    const char c = text_[at_];
    const std::size_t which = escapes.find(c);
    if (which == std::string_view::npos && c != 'u') throw missing("known escape");
    ++at_;
    if (c != 'u') {
      value += meanings[which];
      return;
    }
    std::uint32_t code = four_digits();
    if (code >= 0xD800 && code < 0xE000) {  // two halves of one character
      const bool low_follows = code < 0xDC00 && text_.substr(at_, 2) == "\\u";
      if (low_follows) at_ += 2;
      const std::uint32_t low = low_follows ? four_digits() : 0;
      if (low < 0xDC00 || low > 0xDFFF) throw missing("second half of a surrogate pair");
      code = 0x10000 + ((code - 0xD800) << 10U) + (low - 0xDC00);
    }
    const auto put = [&](std::uint32_t byte) { value += static_cast<char>(byte); };
    if (code < 0x80) {
      put(code);
      return;
    }
    if (code < 0x800) {
      put(0xC0U | code >> 6U);
    } else {
      if (code < 0x10000) {
        put(0xE0U | code >> 12U);
      } else {
        put(0xF0U | code >> 18U);
        put(0x80U | (code >> 12U & 0x3FU));
      }
      put(0x80U | (code >> 6U & 0x3FU));
    }
    put(0x80U | (code & 0x3FU));
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}}  // namespace flowmatch
