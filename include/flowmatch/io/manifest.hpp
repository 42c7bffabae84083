#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>

#include "flowmatch/core/error.hpp"
#include "flowmatch/io/crc32.hpp"

namespace flowmatch { inline namespace v0 {

/// A small file of `key = value` lines that people can read, whose last line is the CRC-32 of all
/// the others. Keys hold no '=' and no line break; in values, line breaks and backslashes are
/// escaped.
class Manifest {
 public:
  /// Throws OptionError for a key that is empty or holds '=' or a line break.
  void set(const std::string& key, std::string_view value) {
    if (key.empty() || key.find_first_of("=\n") != std::string::npos) {
      throw OptionError("'" + key +
                        "' can't be a manifest's key; use one without '=' and line breaks");
    }
    entries_[key] = value;
  }
  /// The same of a number.
  void set(const std::string& key, std::int64_t value) { set(key, std::to_string(value)); }

  /// Whether there is such a key.
  bool contains(const std::string& key) const { return entries_.count(key) != 0; }
  /// All keys and values, sorted.
  const std::map<std::string, std::string>& entries() const noexcept { return entries_; }

  /// Throws CheckpointError where there is no such key.
  const std::string& get(const std::string& key) const {
    const auto found = entries_.find(key);
    if (found == entries_.end()) throw CheckpointError("the manifest has no entry '" + key + "'");
    return found->second;
  }
  /// Throws CheckpointError where there is no such key, or its value is no whole number.
  std::int64_t get_int(const std::string& key) const {
    const std::string& text = get(key);
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) {
      throw CheckpointError("the manifest's entry '" + key + "' is '" + text +
                            "', not a whole number");
    }
    return value;
  }

  /// A number, NaN and infinity among them. Throws CheckpointError where there is no such key, or
  /// its value is no number.
  double get_double(const std::string& key) const {
    const std::string& text = get(key);
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) {
      throw CheckpointError("the manifest's entry '" + key + "' is '" + text + "', not a number");
    }
    return value;
  }

  /// As it stands in the file.
  std::string to_text() const {
    std::string text;
    for (const auto& [key, value] : entries_) text += key + " = " + escape(value) + "\n";
    return text + "crc32 = " + hex(crc32(text)) + "\n";
  }

  /// Throws CheckpointError for a text that is cut, altered or no manifest.
  static Manifest from_text(std::string_view text) {
    constexpr std::size_t crc_line = 17;  // "crc32 = " + 8 digits + line break
    if (text.size() < crc_line) throw CheckpointError("the manifest is cut short");
    const std::string_view body = text.substr(0, text.size() - crc_line);
    if (text.substr(body.size()) != "crc32 = " + hex(crc32(body)) + "\n") {
      throw CheckpointError("the manifest is damaged: its CRC-32 does not match");
    }
    Manifest manifest;
    for (std::size_t begin = 0; begin < body.size();) {
      const std::size_t end = std::min(body.find('\n', begin), body.size());
      const std::string_view line = body.substr(begin, end - begin);
      const std::size_t equals = line.find(" = ");
      if (equals == std::string_view::npos)
        throw CheckpointError("the manifest has a line without ' = '");
      manifest.set(std::string(line.substr(0, equals)), unescape(line.substr(equals + 3)));
      begin = end + 1;
    }
    return manifest;
  }

  /// `crc`, a CRC-32, as eight hexadecimal digits.
  static std::string hex(std::uint32_t crc) {
    char digits[9];
    std::snprintf(digits, sizeof digits, "%08x", static_cast<unsigned>(crc));
    return digits;
  }

 private:
  static std::string escape(std::string_view value) {
    std::string text;
    for (const char c : value) {
      if (c == '\\') {
        text += "\\\\";
      } else if (c == '\n') {
        text += "\\n";
      } else {
        text += c;
      }
    }
    return text;
  }
  static std::string unescape(std::string_view value) {
    std::string text;
    for (std::size_t i = 0; i < value.size(); ++i) {
      if (value[i] == '\\' && i + 1 < value.size()) {
        text += value[++i] == 'n' ? '\n' : value[i];
      } else {
        text += value[i];
      }
    }
    return text;
  }

  std::map<std::string, std::string> entries_;
};

}}  // namespace flowmatch
