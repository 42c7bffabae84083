#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <system_error>

#include "flowmatch/core/error.hpp"
#include "flowmatch/io/tensorboard.hpp"
#include "flowmatch/monitor/hooks.hpp"

namespace flowmatch { inline namespace v0 {

/// A hook that writes training's curves for TensorBoard: `train/loss`, `train/learning_rate` and
/// `train/samples_per_second` a step, `train/epoch_loss` an epoch, each at the count of optimizer
/// steps. Everything else goes through `writer()`: `log.writer().scalar("validation/loss", …)`.
///
/// `steps_done` is `trainer.steps()` of a run that resumes; see TensorBoardWriter. Where it is 0,
/// TensorBoard is told to forget what another run has left in the folder. The file is
/// flushed at each epoch's end and each `flush_every` steps; what was not flushed is lost where the
/// program is killed. Throws OptionError for `flush_every` below 1, DataError where the file can't
/// be written.
class TensorBoardLog {
 public:
  /// As `TensorBoardWriter`.
  explicit TensorBoardLog(const std::filesystem::path& folder, std::int64_t steps_done = 0,
                          std::int64_t flush_every = 1)
      : flush_every_(flush_every), writer_(folder, steps_done) {
    if (flush_every < 1) throw OptionError("flush_every is below 1; choose at least 1 step");
    if (steps_done > 0) return;
    // Curves of another run in the folder would be drawn as one with this one's.
    std::error_code ignored;
    for (const auto& file : std::filesystem::directory_iterator(folder, ignored)) {
      const bool events = file.path().filename().string().rfind("events.out.tfevents.", 0) == 0;
      if (events) writer_.restart(1);
    }
  }

  /// Writes loss, learning rate and samples/s.
  void on_step(const StepReport& r) {
    if (r.step <= last_step_) writer_.restart(r.step);  // after a roll-back
    last_step_ = r.step;
    if (r.loss) writer_.scalar("train/loss", *r.loss, r.step);
    writer_.scalar("train/learning_rate", r.learning_rate, r.step);
    if (!std::isnan(r.samples_per_second))
      writer_.scalar("train/samples_per_second", r.samples_per_second, r.step);
    if (r.step % flush_every_ == 0) writer_.flush();
  }

  /// Writes the epoch's loss.
  void on_epoch(const EpochReport& r) {
    if (!std::isnan(r.loss)) writer_.scalar("train/epoch_loss", r.loss, r.step);
    writer_.flush();
  }

  /// For curves and pictures of your own.
  TensorBoardWriter& writer() noexcept { return writer_; }

 private:
  std::int64_t flush_every_;
  std::int64_t last_step_ = -1;
  TensorBoardWriter writer_;
};

}}  // namespace flowmatch
