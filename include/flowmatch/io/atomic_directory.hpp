#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "flowmatch/core/error.hpp"

namespace flowmatch { inline namespace v0 {

/// A directory that appears whole or not at all. Its files are written under a temporary name
/// beside the final one; `commit()` flushes them to the disk and renames the directory. Without a
/// commit the temporary one is removed. A reader therefore never sees half of it, whenever the
/// power goes. Throws CheckpointError on any failure.
class AtomicDirectory {
 public:
  /// Will appear as `target`.
  explicit AtomicDirectory(std::filesystem::path target)
      : target_(target.has_filename() ? std::move(target) : target.parent_path()),  // "run/"
        temporary_(target_.parent_path() / (".writing-" + target_.filename().string())) {
    std::error_code error;
    std::filesystem::remove_all(temporary_, error);  // what an interrupted run left
    std::filesystem::create_directories(temporary_, error);
    if (error) fail("create", temporary_, error);
  }
  ~AtomicDirectory() {
    std::error_code ignored;
    if (!committed_) std::filesystem::remove_all(temporary_, ignored);
  }
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  /// Where to write until the commit.
  const std::filesystem::path& path() const noexcept { return temporary_; }

  /// Replaces an older directory of the final name. That one is moved aside first and removed last,
  /// so that at no moment both are lost.
  void commit() {
    std::error_code error;
    for (const auto& file : std::filesystem::directory_iterator(temporary_, error)) {
      flush(file.path());
    }
    if (error) fail("read", temporary_, error);
    flush(temporary_);
    const std::filesystem::path aside =
        target_.parent_path() / (".replaced-" + target_.filename().string());
    std::error_code ignored;
    std::filesystem::remove_all(aside, ignored);
    std::filesystem::rename(target_, aside, ignored);  // fails where there is none
    std::filesystem::rename(temporary_, target_, error);
    if (error) {
      std::filesystem::rename(aside, target_, ignored);
      fail("rename", temporary_, error);
    }
    committed_ = true;
    std::filesystem::remove_all(aside, ignored);
    flush(target_.parent_path().empty() ? "." : target_.parent_path());
  }

 private:
  [[noreturn]] static void fail(const char* verb, const std::filesystem::path& path,
                                const std::error_code& error) {
    throw CheckpointError(std::string("cannot ") + verb + " " + path.string() + ": " +
                          error.message() + "; check the folder's permissions and the free space");
  }
  static void flush(const std::filesystem::path& path) {
    const int file = ::open(path.c_str(), O_RDONLY);
    const bool flushed = file >= 0 && ::fsync(file) == 0;
    const std::error_code error(errno, std::generic_category());
    if (file >= 0) ::close(file);
    if (!flushed && error.value() != EINVAL)
      fail("flush", path, error);  // EINVAL: a file system that can't fsync
  }

  std::filesystem::path target_;
  std::filesystem::path temporary_;
  bool committed_ = false;
};

}}  // namespace flowmatch
