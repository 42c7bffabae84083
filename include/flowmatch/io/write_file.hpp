#pragma once

#include <filesystem>
#include <fstream>
#include <ios>
#include <string_view>
#include <system_error>
#include <utility>

namespace flowmatch { inline namespace v0 {

namespace detail {

template <class E>
[[noreturn]] void cannot_write(const std::filesystem::path& path) {
  throw E("cannot write " + path.string() +
          "; check that the folder exists, is writable and has room");
}

}  // namespace detail

/// Writes a file where it is to stand, as those of an AtomicDirectory may be. Throws an E where it
/// can't be written.
template <class E>
void write_bytes(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) detail::cannot_write<E>(path);
}

/// Writes a file by `write(std::ostream&)`, under a temporary name beside it that is renamed at the
/// end, so that an older file survives a failure. Throws an E where the file can't be written.
template <class E, class F>
void write_file(const std::filesystem::path& path, F&& write) {
  std::filesystem::path temporary = path;
  temporary += ".writing";
  std::error_code error;
  std::ofstream file(temporary, std::ios::binary);
  try {
    std::forward<F>(write)(file);
  } catch (...) {
    file.close();
    std::filesystem::remove(temporary, error);
    throw;
  }
  file.close();
  if (file) std::filesystem::rename(temporary, path, error);
  if (!file || error) {
    std::filesystem::remove(temporary, error);
    detail::cannot_write<E>(path);
  }
}

}}  // namespace flowmatch
