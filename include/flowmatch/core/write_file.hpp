#pragma once

#include <filesystem>
#include <fstream>
#include <ios>
#include <string_view>

namespace flowmatch::inline v0 {

/// Writes a whole file. Throws an E where it cannot be written to its last byte.
template <class E>
void write_file(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file)
    throw E("cannot write " + path.string() +
            "; check that the folder exists, is writable and has room");
}

}  // namespace flowmatch::inline v0
