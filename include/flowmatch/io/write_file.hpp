#pragma once

#include <fcntl.h>

#include <filesystem>
#include <fstream>
#include <ios>
#include <locale>
#include <ostream>
#include <string_view>
#include <system_error>
#include <utility>

#include "flowmatch/io/path_lock.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

template <class E>
[[noreturn]] void cannot_write(const std::filesystem::path& path) {
  throw E("cannot write " + path.string() +
          "; check that the folder exists, is writable and has room");
}

/// What a name leads to through links, whether or not that is there yet. Throws an E for links that
/// lead to each other.
template <class E>
std::filesystem::path followed(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::path target = path;
  for (int links = 0; fs::is_symlink(fs::symlink_status(target, error)); ++links) {
    if (links == 40) cannot_write<E>(path);  // as many as Linux follows
    target = target.parent_path() / fs::read_symlink(target, error);
  }
  return target;
}

/// A file by `write(std::ostream&)`, with numbers as C++ spells them whatever the program's locale.
template <class F>
bool write_through(const std::filesystem::path& path, F&& write) {
  std::ofstream file;
  file.imbue(std::locale::classic());
  file.open(path, std::ios::binary);
  std::forward<F>(write)(file);
  file.close();
  return !file.fail();
}

}  // namespace detail

/// Writes a file where it is to stand, as those of an AtomicDirectory may be. Throws an E where it
/// can't be written.
template <class E>
void write_bytes(const std::filesystem::path& path, std::string_view bytes) {
  const bool written = detail::write_through(path, [&](std::ostream& file) {
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  });
  if (!written) detail::cannot_write<E>(path);
}

/// Writes a file by `write(std::ostream&)`, under a temporary name beside it that is flushed to the
/// disk and renamed at the end: whenever the program is killed or the power goes, the older file or
/// the newer one is there as a whole. Of several processes that write it at once, one waits for the
/// other. Where the name is a link, what it leads to is written; a device or pipe is written to as
/// it is. Throws an E where the file can't be written, which leaves the older one.
template <class E, class F>
void write_file(const std::filesystem::path& path, F&& write) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::exists(status) && !fs::is_regular_file(status) && !fs::is_directory(status)) {
    if (!detail::write_through(path, std::forward<F>(write))) detail::cannot_write<E>(path);
    return;
  }
  const fs::path target = detail::followed<E>(path);
  fs::path temporary = target;
  temporary += ".writing";
  const PathLock lock(temporary, O_WRONLY | O_CREAT, PathLock::Wait::yes);
  if (!lock.is_open()) detail::cannot_write<E>(path);
  bool written = false;
  try {
    written = detail::write_through(temporary, std::forward<F>(write)) && lock.flush();
  } catch (...) {
    fs::remove(temporary, error);
    throw;
  }
  if (written) fs::rename(temporary, target, error);
  if (!written || error) {
    fs::remove(temporary, error);
    detail::cannot_write<E>(path);
  }
}

}}  // namespace flowmatch
