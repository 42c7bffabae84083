#pragma once

#include <c10/core/GeneratorImpl.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "flowmatch/checkpoint/checkpoint.hpp"
#include "flowmatch/checkpoint/folder_lock.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/io/atomic_directory.hpp"
#include "flowmatch/io/manifest.hpp"
#include "flowmatch/io/path_lock.hpp"

namespace flowmatch { inline namespace v0 {

/// The folder of a run's checkpoints as that run sees it. A run has an identity, a random text that
/// stands as `run` in the manifest of each of its checkpoints and that a run which resumes goes on
/// with, so that none takes another's checkpoints for its own. (Checkpoints of older versions have
/// none; a run that resumes from one goes on without.)
class RunFolder {
 public:
  /// Of the folder `path`; `set_others_aside`: what `claim` does about checkpoints of other runs.
  explicit RunFolder(const std::filesystem::path& path, bool set_others_aside = false)
      : path_(path.empty() ? path : absolute_path(path)), set_others_aside_(set_others_aside) {}

  /// @{ The folder; whether there is none.
  const std::filesystem::path& path() const noexcept { return path_; }
  bool empty() const noexcept { return path_.empty(); }
  /// @}

  /// Before a run that stands at `step` trains: locks and claims the folder, and tries to write
  /// there, so that what is wrong with it shows now and not after the first epoch.
  std::shared_ptr<FolderLock> begin(std::int64_t step) {
    std::shared_ptr<FolderLock> held = lock();
    claim(step);
    AtomicDirectory(path_ / "test");
    return held;
  }

  /// Keeps other runs out of the folder while the returned value, or an earlier one, lives. Throws
  /// CheckpointError as FolderLock does.
  std::shared_ptr<FolderLock> lock() {
    std::shared_ptr<FolderLock> held = lock_.lock();
    if (!held) lock_ = held = std::make_shared<FolderLock>(path_);
    return held;
  }

  /// The run goes on from one of its checkpoints, of this `manifest`.
  void adopt(const Manifest& manifest) { run_ = detail::run_in(manifest); }

  /// Before the run, which stands at `step`, writes: makes sure that the folder holds none but its
  /// own checkpoints, none of them of a later step. Other runs' are refused, or moved into a new
  /// folder `set-aside-N` beside them, N = 1, 2, …; so are in any case the run's own of later
  /// steps, which it is about to repeat (damaged ones that `resume` passed over), and those whose
  /// manifest can't be read. To be called with `lock()` held. Throws CheckpointError; nothing has
  /// changed then.
  void claim(std::int64_t step) {
    const std::string me = run_ ? *run_ : new_run();
    std::vector<std::filesystem::path> aside;
    for (const std::filesystem::path& path : list_checkpoints(path_)) {
      const std::optional<std::string> run = detail::run_of(path);
      const bool mine = run ? *run == me : run_.has_value();
      if (!mine && !set_others_aside_) refuse(path);
      if (run != me || detail::step_of(path) > step) aside.push_back(path);
    }
    set_aside(aside);
    run_ = me;
  }

  /// Names the run in a `manifest` that is to be written; `claim` comes first.
  void describe(Manifest& manifest) const {
    if (run_ && !run_->empty()) manifest.set("run", *run_);
  }

 private:
  [[noreturn]] void refuse(const std::filesystem::path& other) {
    throw CheckpointError(
        path_.string() + " holds checkpoints of another run (" + other.filename().string() +
        "), which this one would mix with its own; to go on with that run call resume() before "
        "fit(), to begin a new one choose another folder, or set `set_aside_other_runs`, which "
        "moves them into a folder of their own");
  }

  void set_aside(const std::vector<std::filesystem::path>& checkpoints) const {
    if (checkpoints.empty()) return;
    std::error_code error;
    std::filesystem::path target;
    for (std::int64_t n = 1; target.empty() || std::filesystem::exists(target, error); ++n)
      target = path_ / ("set-aside-" + std::to_string(n));
    std::filesystem::create_directory(target, error);
    for (const std::filesystem::path& path : checkpoints) {
      if (!error) std::filesystem::rename(path, target / path.filename(), error);
    }
    if (!error) return;
    throw CheckpointError("cannot move checkpoints to " + target.string() + ": " + error.message() +
                          "; check the folder's permissions and the free space");
  }

  // Not from LibTorch's generators: beginning a run moves none.
  static std::string new_run() {
    const std::uint64_t drawn = c10::detail::getNonDeterministicRandom();  // 53 bits
    return Manifest::hex(static_cast<std::uint32_t>(drawn >> 32)) +
           Manifest::hex(static_cast<std::uint32_t>(drawn));
  }

  std::filesystem::path path_;
  bool set_others_aside_;
  std::optional<std::string> run_{};  // "" for a run that an older version began
  std::weak_ptr<FolderLock> lock_{};
};

}}  // namespace flowmatch
