#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

#include "flowmatch/core/error.hpp"
#include "flowmatch/io/path_lock.hpp"

namespace flowmatch { inline namespace v0 {

/// While it lives, no other one can be made for the same folder, by any process of this machine.
/// Makes the folder where it is missing, and no file in it; ends with the process, however that
/// ends. Throws CheckpointError where another one lives, naming its process where the system tells
/// (Linux), and for a folder that can't be made or read. On file systems that cannot lock a folder
/// (some that lie on a network) it locks nothing.
class FolderLock {
 public:
  /// Locks the folder at once or throws.
  explicit FolderLock(const std::filesystem::path& folder)
      : lock_(made(folder), O_RDONLY | O_DIRECTORY, PathLock::Wait::no) {
    if (!lock_.is_open()) fail(folder, std::error_code(lock_.error(), std::generic_category()));
    if (!lock_.taken()) return;
    throw CheckpointError("a run is writing its checkpoints to " + folder.string() +
                          " at this moment" + process_with_lock(folder) +
                          "; wait for its end and resume(), or choose another folder");
  }

 private:
  static const std::filesystem::path& made(const std::filesystem::path& folder) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) fail(folder, error);
    return folder;
  }
  [[noreturn]] static void fail(const std::filesystem::path& folder, const std::error_code& error) {
    throw CheckpointError("cannot create checkpoints in " + folder.string() + ": " +
                          error.message() + "; check the folder's permissions and the free space");
  }

  // A line of /proc/locks: "1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF", the process and the
  // file's number among them.
  static std::string process_with_lock(const std::filesystem::path& folder) {
    struct stat status {};
    if (::stat(folder.c_str(), &status) != 0) return "";
    const std::string number = ":" + std::to_string(status.st_ino) + " ";
    std::ifstream locks("/proc/locks");
    for (std::string line; std::getline(locks, line);) {
      const std::size_t write = line.find(" WRITE ");
      if (line.find("FLOCK") == std::string::npos || write == std::string::npos ||
          line.find(number) == std::string::npos) {
        continue;
      }
      const std::string process = line.substr(write + 7, line.find(' ', write + 7) - (write + 7));
      return process == std::to_string(::getpid()) ? " (another trainer of this program)"
                                                   : " (process " + process + ")";
    }
    return "";
  }

  PathLock lock_;
};

}}  // namespace flowmatch
