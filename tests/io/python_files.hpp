#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

/// Files that Python wrote (tests/io/python).
inline const std::filesystem::path python = FLOWMATCH_SOURCE_DIR "/tests/io/python";

inline std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}
