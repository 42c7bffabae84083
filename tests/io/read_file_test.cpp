#include "flowmatch/io/read_file.hpp"

#include <unistd.h>

#include <cstdint>
#include <string>
#include <system_error>

#include "flowmatch/core/error.hpp"
#include "tests/io/files.hpp"
#include "tests/support/test.hpp"

TEST_CASE("read_file: a file is read as it is and what is none is refused") {
  const TemporaryFolder folder;
  const std::string bytes("a\0\r\n\xff", 5);
  write(folder.path() / "a", bytes);
  write(folder.path() / "empty", "");
  CHECK(fm::read_file<fm::DataError>(folder.path() / "a") == bytes);
  CHECK(fm::read_file<fm::DataError>(folder.path() / "empty").empty());
  for (const auto& none : {folder.path(), folder.path() / "none"}) {
    require_error<fm::DataError>([&] { fm::read_file<fm::DataError>(none); },
                                 "cannot read " + none.string() + "; check");
  }
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FLOWMATCH_TEST_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FLOWMATCH_TEST_SANITIZED
#endif
#endif

#ifndef FLOWMATCH_TEST_SANITIZED  // whose allocators end the program instead
TEST_CASE("read_file: a file larger than memory is refused with the remedy") {
  // More than a process can address, without a byte on the disk.
  const std::filesystem::path path = "/dev/shm/flowmatch-test-" + std::to_string(::getpid());
  write(path, "");
  std::error_code error;
  std::filesystem::resize_file(path, std::uintmax_t{1} << 48U, error);
  if (error) {
    WARN("SKIPPED: no file system for large files here");
  } else {
    require_error<fm::CheckpointError>([&] { fm::read_file<fm::CheckpointError>(path); },
                                       "do not fit into memory; map it instead");
  }
  std::filesystem::remove(path, error);
}
#endif
