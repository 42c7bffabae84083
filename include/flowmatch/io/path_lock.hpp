#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace flowmatch { inline namespace v0 {

/// A path from the root, so that it stays where it is when the program goes to another folder; as
/// it was given where that can't be found out.
inline std::filesystem::path absolute_path(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::path whole = std::filesystem::absolute(path, error);
  return error ? path : whole;
}

/// A file or folder that this object alone works on, among all threads and processes that lock it
/// so. The system gives it free when the process ends, however it ends. File systems that know no
/// locks let everyone in.
class PathLock {
 public:
  /// Whether to wait for others.
  enum class Wait {
    no,  ///< taken() tells whether there were any
    yes  ///< until they have done
  };

  /// Opens the `path` by open(2)'s `flags` and locks it, at once or, to `wait`, when others have
  /// done.
  PathLock(const std::filesystem::path& path, int flags, Wait wait) {
    struct stat mine {};
    struct stat named {};
    do {  // again where it was renamed or removed meanwhile
      release();
      file_ = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
      if (file_ < 0) {
        error_ = errno;
        return;
      }
      int result = 0;
      do {
        result = ::flock(file_, wait == Wait::yes ? LOCK_EX : LOCK_EX | LOCK_NB);
      } while (result != 0 && errno == EINTR);
      locked_ = result == 0;
      taken_ = !locked_ && errno == EWOULDBLOCK;
      if (taken_) return;
    } while (::fstat(file_, &mine) == 0 &&
             (::stat(path.c_str(), &named) != 0 || mine.st_dev != named.st_dev ||
              mine.st_ino != named.st_ino));
  }
  ~PathLock() { release(); }
  PathLock(const PathLock&) = delete;
  PathLock& operator=(const PathLock&) = delete;

  /// Whether the path could be opened.
  bool is_open() const noexcept { return file_ >= 0; }
  /// Someone else works on it.
  bool taken() const noexcept { return taken_; }
  /// False, too, where the file system knows no locks.
  bool locked() const noexcept { return locked_; }
  /// Why it could not be opened.
  int error() const noexcept { return error_; }
  /// Hands what was written to the disk. False where that fails; what can't be flushed, as a pipe,
  /// is no failure.
  bool flush() const noexcept { return ::fsync(file_) == 0 || errno == EINVAL || errno == EROFS; }

  /// Gives it free.
  void release() noexcept {
    if (file_ >= 0) ::close(file_);
    file_ = -1;
    locked_ = false;
  }

 private:
  int file_ = -1;
  int error_ = 0;
  bool locked_ = false;
  bool taken_ = false;
};

}}  // namespace flowmatch
