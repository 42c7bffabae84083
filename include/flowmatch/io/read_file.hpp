#pragma once

#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <ios>
#include <string>
#include <system_error>

namespace flowmatch { inline namespace v0 {

/// A whole file as bytes. Throws an E where it is missing, unreadable, larger than memory, or no
/// file: reading a folder as a stream would throw what nobody expects.
template <class E>
std::string read_file(const std::filesystem::path& path) {
  std::error_code error;  // set for what is no file, too
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  std::ifstream file(path, std::ios::binary);
  std::string bytes;
  try {
    bytes.resize(error ? 0 : size);
  } catch (const std::exception&) {  // bad_alloc, or length_error for what no text can hold
    throw E("cannot read " + path.string() + ": its " + std::to_string(size) +
            " bytes do not fit into memory; map it instead (map_npy, map_safetensors), or write it "
            "in parts");
  }
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (error || !file)
    throw E("cannot read " + path.string() + "; check the path and its permissions");
  return bytes;
}

}}  // namespace flowmatch
