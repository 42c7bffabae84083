#pragma once

#include <ATen/Functions.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <ios>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/io/map_file.hpp"
#include "flowmatch/io/read_file.hpp"
#include "flowmatch/io/safetensors_header.hpp"
#include "flowmatch/io/tensor_values.hpp"
#include "flowmatch/io/write_file.hpp"

/// Weights in .safetensors files, the exchange format of Python's `safetensors.torch`.

namespace flowmatch { inline namespace v0 {

/// What such a file holds: named tensors, and notes of any kind.
struct Safetensors {
  StateDict tensors;                            ///< in the order of the file
  std::map<std::string, std::string> metadata;  ///< what stands under __metadata__
};

namespace detail {

/// In the order of `safetensors_types`.
inline constexpr std::array<at::ScalarType, safetensors_types.size()> safetensors_dtypes{
    at::kDouble,
    at::kFloat,
    at::kHalf,
    at::kBFloat16,
    at::kLong,
    at::kInt,
    at::kShort,
    at::kChar,
    at::kUInt64,
    at::kUInt32,
    at::kUInt16,
    at::kByte,
    at::kBool,
    at::kComplexFloat,
    at::kFloat8_e4m3fn,
    at::kFloat8_e5m2,
    at::kFloat8_e8m0fnu,
    at::kFloat8_e4m3fnuz,
    at::kFloat8_e5m2fnuz,
};
static_assert(std::endian::native == std::endian::little, "the values are copied as they are");

/// Tensors that look into the file's bytes and keep them.
inline Safetensors view_safetensors(const SharedBytes& bytes, const std::string& name) {
  SafetensorsHeader header = parse_safetensors_header(bytes.view(), name);
  Safetensors file;
  file.metadata = std::move(header.metadata);
  for (const SafetensorsEntry& entry : header.tensors) {
    std::size_t type = 0;
    while (safetensors_types[type].name != entry.dtype) ++type;
    char* const begin = bytes.data.get() + header.size + entry.begin;
    if (entry.dtype == "BOOL" && std::any_of(begin, begin + (entry.end - entry.begin),
                                             [](char value) { return value != 0 && value != 1; })) {
      throw CheckpointError(name + ": '" + entry.name +
                            "' is of type BOOL with values other than 0 and 1; write it as U8");
    }
    at::Tensor tensor = at::from_blob(
        begin, entry.shape, [keep = bytes.data](void*) {}, at::dtype(safetensors_dtypes[type]));
    // Other writers may have put it at an odd address, which not every instruction can read.
    const bool aligned =
        reinterpret_cast<std::uintptr_t>(begin) % safetensors_types[type].bytes == 0;
    file.tensors.insert(entry.name, aligned ? tensor : tensor.clone());
  }
  return file;
}

}  // namespace detail

/// Reads a .safetensors file. The tensors share one block of memory, which goes with the last of
/// them. Throws CheckpointError where the file is missing, or anything about it is wrong.
inline Safetensors load_safetensors(const std::filesystem::path& path) {
  const auto text = std::make_shared<std::string>(read_file<CheckpointError>(path));
  return detail::view_safetensors({std::shared_ptr<char>(text, text->data()), text->size()},
                                  path.string());
}

/// The same without reading it: values come from the disk when they are touched, and programs that
/// map the same file share the memory. Writing to a tensor does not change the file. See `map_file`
/// for a file that is cut meanwhile.
inline Safetensors map_safetensors(const std::filesystem::path& path) {
  return detail::view_safetensors(map_file<CheckpointError>(path), path.string());
}

/// Writes tensors, from any device and in C order, and notes (`metadata`); the widest types first
/// and equally wide ones by name, so that all are aligned. Under a temporary name first, so that an
/// older file survives a failure. Throws CheckpointError for tensors that such a file can't hold
/// (sparse, quantised, nested, without values, complex128), names that are not UTF-8, and where it
/// can't be written.
inline void save_safetensors(const std::filesystem::path& path, const StateDict& tensors,
                             const std::map<std::string, std::string>& metadata = {}) {
  SafetensorsHeader header;
  header.metadata = metadata;
  for (const auto& item : tensors) {
    const at::Tensor& tensor = item.value();
    const auto type = has_plain_values(tensor)
                          ? std::find(detail::safetensors_dtypes.begin(),
                                      detail::safetensors_dtypes.end(), tensor.scalar_type())
                          : detail::safetensors_dtypes.end();
    if (type == detail::safetensors_dtypes.end() || item.key() == "__metadata__") {
      throw CheckpointError("a .safetensors file can't hold '" + item.key() +
                            "'; give it another dtype or name, or leave it out");
    }
    const auto i = static_cast<std::size_t>(type - detail::safetensors_dtypes.begin());
    header.tensors.push_back({item.key(), std::string(detail::safetensors_types[i].name),
                              tensor.sizes().vec(), 0, tensor.nbytes()});
  }
  const auto order = [&](const SafetensorsEntry& entry) {
    return std::make_pair(-tensors.at(entry.name).element_size(), std::string_view(entry.name));
  };
  std::sort(header.tensors.begin(), header.tensors.end(),
            [&](const auto& a, const auto& b) { return order(a) < order(b); });
  std::uint64_t begin = 0;
  for (SafetensorsEntry& entry : header.tensors) {
    entry.begin = begin;
    begin = entry.end += begin;
  }
  std::string header_bytes;
  try {
    header_bytes = safetensors_header_bytes(header);
  } catch (const DataError& error) {
    throw CheckpointError("cannot write " + path.string() + ": " + error.what());
  }
  write_file<CheckpointError>(path, [&](std::ostream& file) {
    file << header_bytes;
    for (const SafetensorsEntry& entry : header.tensors) {
      const at::Tensor values = plain_values(tensors.at(entry.name)).contiguous();
      file.write(static_cast<const char*>(values.const_data_ptr()),
                 static_cast<std::streamsize>(values.nbytes()));
    }
  });
}

}}  // namespace flowmatch
