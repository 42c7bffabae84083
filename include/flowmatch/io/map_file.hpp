#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace flowmatch { inline namespace v0 {

/// Bytes that live as long as someone holds `data`.
struct SharedBytes {
  std::shared_ptr<char> data;  ///< the first byte
  std::size_t size = 0;        ///< how many there are

  /// All bytes.
  std::string_view view() const { return {data.get(), size}; }
};

/// A file as memory that the system reads piece by piece, when it is touched. Writing to the memory
/// changes a private copy of the page, not the file. The file must stay as long as it is: a program
/// that touches what was cut off gets SIGBUS. Throws an E where it is missing, unreadable or no
/// file.
template <class E>
SharedBytes map_file(const std::filesystem::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status {};
  SharedBytes bytes;
  bool usable = file >= 0 && ::fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  if (usable && status.st_size > 0) {  // nothing can't be mapped
    const auto size = static_cast<std::size_t>(status.st_size);
    // NORESERVE: pages that could be written count as memory to be had, and files larger than it
    // would be refused.
    void* const memory =
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file, 0);
    usable = memory != MAP_FAILED;
    if (usable) {
      bytes.data = {static_cast<char*>(memory), [size](char* begin) { ::munmap(begin, size); }};
      bytes.size = size;
    }
  }
  if (file >= 0) ::close(file);
  if (!usable) throw E("cannot read " + path.string() + "; check the path and its permissions");
  return bytes;
}

}}  // namespace flowmatch
