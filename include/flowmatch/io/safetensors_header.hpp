#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/io/element_count.hpp"
#include "flowmatch/io/json.hpp"

/// The header of a .safetensors file (https://github.com/huggingface/safetensors), read and written
/// without LibTorch. Such a file is 8 bytes of length (little-endian), that many bytes of JSON, and
/// the values of all tensors without a gap.

namespace flowmatch { inline namespace v0 {

/// One tensor. Its values are the bytes [begin, end) of what follows the header.
struct SafetensorsEntry {
  std::string name;                 ///< of the tensor
  std::string dtype;                ///< F32, BF16, …
  std::vector<std::int64_t> shape;  ///< as Python has it
  std::uint64_t begin = 0;          ///< the first byte, after the header
  std::uint64_t end = 0;            ///< the byte after the last
};

/// What the head of a file says.
struct SafetensorsHeader {
  std::vector<SafetensorsEntry> tensors;        ///< in the order of their values
  std::map<std::string, std::string> metadata;  ///< `__metadata__`
  std::size_t size = 0;                         ///< bytes before the values
};

namespace detail {

struct SafetensorsType {
  std::string_view name;
  std::size_t bytes;
};
inline constexpr std::array<SafetensorsType, 19> safetensors_types{{
    {"F64", 8},     {"F32", 4},     {"F16", 2},         {"BF16", 2},        {"I64", 8},
    {"I32", 4},     {"I16", 2},     {"I8", 1},          {"U64", 8},         {"U32", 4},
    {"U16", 2},     {"U8", 1},      {"BOOL", 1},        {"C64", 8},         {"F8_E4M3", 1},
    {"F8_E5M2", 1}, {"F8_E8M0", 1}, {"F8_E4M3FNUZ", 1}, {"F8_E5M2FNUZ", 1},
}};

/// {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
inline SafetensorsEntry read_safetensors_entry(JsonReader& json, const std::string& name) {
  const auto bad = [&](const std::string& what) { return DataError("'" + name + "' " + what); };
  SafetensorsEntry entry{name, {}, {}, 0, 0};
  std::size_t element = 0;
  std::vector<std::uint64_t> offsets;
  std::vector<std::string> seen;
  json.object([&](const std::string& key) {
    if (std::find(seen.begin(), seen.end(), key) != seen.end())
      throw bad("has '" + key + "' twice");
    seen.push_back(key);
    if (key == "dtype") {
      entry.dtype = json.string();
      const auto type = std::find_if(safetensors_types.begin(), safetensors_types.end(),
                                     [&](const auto& known) { return known.name == entry.dtype; });
      if (type == safetensors_types.end())
        throw bad("is of type '" + entry.dtype + "', which is not supported");
      element = type->bytes;
    } else if (key == "shape") {
      json.numbers([&](std::int64_t size) {
        if (entry.shape.size() == 64) throw bad("has more than 64 dimensions");
        entry.shape.push_back(size);
      });
    } else if (key == "data_offsets") {
      json.numbers([&](std::int64_t offset) {
        if (offsets.size() == 2) throw bad("has more than two offsets");
        offsets.push_back(static_cast<std::uint64_t>(offset));
      });
    } else {
      throw bad("has an unknown '" + key + "'");
    }
  });
  if (seen.size() != 3 || offsets.size() != 2)
    throw bad("lacks one of dtype, shape and two data_offsets");
  entry.begin = offsets[0];
  entry.end = offsets[1];
  const std::optional<std::uint64_t> count = element_count(entry.shape);
  if (!count) throw bad("has a shape that overflows");
  if (entry.begin > entry.end || entry.end - entry.begin != *count * element) {
    throw bad("has offsets " + std::to_string(entry.begin) + " to " + std::to_string(entry.end) +
              " for " + std::to_string(*count * element) + " bytes");
  }
  return entry;
}

inline SafetensorsHeader read_safetensors_header(std::string_view file) {
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < 8 && i < file.size(); ++i) {
    length |= std::uint64_t{static_cast<unsigned char>(file[i])} << 8U * i;
  }
  if (file.size() < 8 || length > file.size() - 8) throw DataError("it ends within its header");
  if (length > 100'000'000) throw DataError("its header is above 100 MB");  // Python's limit, too
  const std::string_view text = file.substr(8, length);
  if (text.empty() || text[0] != '{') throw DataError("its header does not begin with '{'");
  if (!is_utf8(text)) throw DataError("its header is not UTF-8");

  SafetensorsHeader header;
  header.size = 8 + text.size();
  JsonReader json(text);
  bool has_metadata = false;
  json.object([&](const std::string& key) {
    if (key != "__metadata__") {
      header.tensors.push_back(read_safetensors_entry(json, key));
      return;
    }
    if (std::exchange(has_metadata, true)) throw DataError("it has '__metadata__' twice");
    json.object([&](const std::string& note) {
      if (!header.metadata.emplace(note, json.string()).second)
        throw DataError("its metadata have '" + note + "' twice");
    });
  });
  json.end();

  std::vector<std::string_view> names;
  for (const SafetensorsEntry& entry : header.tensors) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) throw DataError("it has '" + std::string(*twice) + "' twice");

  std::sort(header.tensors.begin(), header.tensors.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  std::uint64_t covered = 0;
  for (const SafetensorsEntry& entry : header.tensors) {
    if (entry.begin != covered) {
      throw DataError("the values of '" + entry.name + "' " +
                      (entry.begin < covered ? "overlap others" : "come after a hole"));
    }
    covered = entry.end;
  }
  if (covered != file.size() - header.size) {
    throw DataError("its header declares " + std::to_string(covered) +
                    " bytes of values, it holds " + std::to_string(file.size() - header.size));
  }
  return header;
}

}  // namespace detail

/// Reads the header of `file`, the bytes of a whole .safetensors file, and checks it against them:
/// lengths, grammar, UTF-8, names that occur twice, types, shapes that overflow, and that the
/// values lie without overlaps, holes and trailing bytes. What is allocated is bounded by the
/// header's own length, never by a size that it declares. Throws CheckpointError that says what is
/// wrong; `name` appears in the message.
inline SafetensorsHeader parse_safetensors_header(std::string_view file, const std::string& name) {
  try {
    return detail::read_safetensors_header(file);
  } catch (const DataError& error) {
    throw CheckpointError(name + " is not a usable .safetensors file: " + error.what() +
                          "; restore it from a copy, or write it again");
  }
}

/// The bytes before the values: length and JSON, filled with spaces so that the values begin at a
/// multiple of 8. Throws DataError for names that are not UTF-8.
inline std::string safetensors_header_bytes(const SafetensorsHeader& header) {
  std::string text = "{";
  const auto comma = [&] {
    if (text.back() != '{') text += ',';
  };
  if (!header.metadata.empty()) {
    text += "\"__metadata__\":{";
    for (const auto& [key, value] : header.metadata) {
      comma();
      text += json_string(key) + ":" + json_string(value);
    }
    text += '}';
  }
  for (const SafetensorsEntry& entry : header.tensors) {
    comma();
    text += json_string(entry.name) + ":{\"dtype\":\"" + entry.dtype + "\",\"shape\":[";
    for (std::size_t i = 0; i < entry.shape.size(); ++i) {
      text += (i == 0 ? "" : ",") + std::to_string(entry.shape[i]);
    }
    text += "],\"data_offsets\":[" + std::to_string(entry.begin) + "," + std::to_string(entry.end) +
            "]}";
  }
  text += '}';
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string length(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> 8U * i & 0xFFU);
  return length + text;
}

}}  // namespace flowmatch
