#pragma once

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/io/path_lock.hpp"

namespace flowmatch { inline namespace v0 {

/// A directory that appears whole or not at all. Its files are written under a temporary name,
/// `.writing-NAME` beside the final one; `commit()` flushes them to the disk and renames the
/// directory. Without a commit the temporary one is removed. A reader therefore never sees half of
/// it, whenever the program is killed or the power goes.
///
/// An older directory of the final name and the new one change names in one step (Linux's
/// renameat2), so that at every moment one of them is there. Where the file system can't do that,
/// the old one is called `.replaced-NAME` for a moment, and `recover_replaced` brings it back where
/// that moment was the last.
///
/// Throws CheckpointError on any failure, and where another process writes the same directory.
class AtomicDirectory {
 public:
  /// Will appear as `target`. `can_exchange` = false does as if the file system could not exchange
  /// two names.
  explicit AtomicDirectory(std::filesystem::path target, bool can_exchange = true)
      : target_(target.has_filename() ? std::move(target) : target.parent_path()),  // "run/"
        temporary_(beside(".writing-")),
        aside_(beside(".replaced-")),
        can_exchange_(can_exchange) {
    std::error_code error;
    std::filesystem::create_directories(temporary_, error);
    if (error) fail("create", temporary_, error);
    lock_.emplace(temporary_, O_RDONLY | O_DIRECTORY, PathLock::Wait::no);
    if (lock_->taken()) {
      throw CheckpointError("another process writes " + target_.string() +
                            " at this moment; give each run a folder of its own");
    }
    if (!lock_->is_open())
      fail("create", temporary_, std::error_code(lock_->error(), std::generic_category()));
    std::vector<std::filesystem::path> left;  // by a run that was killed
    for (const auto& entry : std::filesystem::directory_iterator(temporary_, error))
      left.push_back(entry.path());
    for (const auto& path : left) std::filesystem::remove_all(path, error);
    if (error) fail("empty", temporary_, error);
  }
  ~AtomicDirectory() {
    std::error_code ignored;
    if (lock_) std::filesystem::remove_all(temporary_, ignored);
  }
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  /// Where to write until the commit.
  const std::filesystem::path& path() const noexcept { return temporary_; }

  /// Replaces an older directory of the final name.
  void commit() {
    std::error_code error;
    for (const auto& file : std::filesystem::recursive_directory_iterator(temporary_, error))
      flush(file.path());
    if (error) fail("read", temporary_, error);
    flush(temporary_);
    // Nobody takes the old one for a leftover when it gets the temporary name.
    const PathLock old(target_, O_RDONLY | O_DIRECTORY, PathLock::Wait::no);
    if (!exchange()) replace();
    flush(target_.parent_path().empty() ? "." : target_.parent_path());  // before the old one goes
    std::error_code ignored;
    std::filesystem::remove_all(temporary_, ignored);
    std::filesystem::remove_all(aside_, ignored);
    lock_.reset();
  }

 private:
  std::filesystem::path beside(const char* prefix) const {
    return target_.parent_path() / (prefix + target_.filename().string());
  }
  [[noreturn]] static void fail(const char* verb, const std::filesystem::path& path,
                                const std::error_code& error) {
    throw CheckpointError(std::string("cannot ") + verb + " " + path.string() + ": " +
                          error.message() + "; check the folder's permissions and the free space");
  }
  static void flush(const std::filesystem::path& path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    const bool flushed = file >= 0 && ::fsync(file) == 0;
    const std::error_code error(errno, std::generic_category());
    if (file >= 0) ::close(file);
    if (!flushed && error.value() != EINVAL)
      fail("flush", path, error);  // EINVAL: a file system that can't fsync
  }

  /// False where there is no older one, or the file system can't.
  bool exchange() const {
#ifdef SYS_renameat2
    constexpr unsigned rename_exchange = 2;
    return can_exchange_ && ::syscall(SYS_renameat2, AT_FDCWD, temporary_.c_str(), AT_FDCWD,
                                      target_.c_str(), rename_exchange) == 0;
#else
    return false;
#endif
  }
  void replace() const {
    std::error_code error;
    for (int i = 0; i < 10; ++i) {  // a reader may have brought the old one back in between
      std::error_code ignored;
      if (std::filesystem::exists(target_, ignored)) {
        std::filesystem::remove_all(aside_, ignored);
        std::filesystem::rename(target_, aside_, ignored);
      }
      std::filesystem::rename(temporary_, target_, error);
      if (!error) return;
    }
    std::error_code ignored;
    std::filesystem::rename(aside_, target_, ignored);
    fail("rename", temporary_, error);
  }

  std::filesystem::path target_;
  std::filesystem::path temporary_;
  std::filesystem::path aside_;
  bool can_exchange_;
  std::optional<PathLock> lock_{};
};

/// Brings back the directories of a folder that were moved aside (`.replaced-NAME`) by a program
/// that was killed before it could put the new ones in their place. Readers call it before they
/// look for a directory. Whatever fails, as in a folder that can't be written, is left as it is.
inline void recover_replaced(const std::filesystem::path& folder) {
  constexpr std::string_view prefix = ".replaced-";
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind(prefix, 0) == 0) names.push_back(name.substr(prefix.size()));
  }
  for (const std::string& name : names) {
    if (std::filesystem::exists(folder / name, error)) continue;
    std::filesystem::rename(folder / (std::string(prefix) + name), folder / name, error);
  }
}

/// Removes what killed programs left of atomic directories in a folder: `.writing-NAME` that no
/// living process holds, and `.replaced-NAME` where NAME is there.
inline void remove_leftovers(const std::filesystem::path& folder) {
  recover_replaced(folder);
  std::vector<std::filesystem::path> left;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind(".writing-", 0) == 0 || name.rfind(".replaced-", 0) == 0)
      left.push_back(entry.path());
  }
  for (const auto& path : left) {
    const PathLock lock(path, O_RDONLY | O_DIRECTORY, PathLock::Wait::no);
    if (lock.locked()) std::filesystem::remove_all(path, error);
  }
}

}}  // namespace flowmatch
