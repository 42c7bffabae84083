#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <iostream>
#include <string>

#include "flowmatch/monitor/hooks.hpp"

namespace flowmatch { inline namespace v0 {

/// Minutes and seconds (or hours, minutes and seconds) as people write them: 0:07, 12:40, 2:05:00.
inline std::string duration_text(double seconds) {
  const auto s = static_cast<std::int64_t>(seconds + 0.5);
  return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                  : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

/// A hook that shows training's progress on a stream: epoch, step, loss, samples/s and the time
/// left. On a terminal (`bar` set) one line that redraws itself, elsewhere a plain line now and
/// then and one an epoch.
class ProgressBar {
 public:
  /// On the stream `out`; `bar` as above.
  explicit ProgressBar(std::ostream& out = std::clog, bool bar = false) : out_(&out), bar_(bar) {}

  /// Shows the step, now and then.
  void on_step(const StepReport& r) {
    if (r.loss) loss_ = *r.loss;
    const double pause = bar_ ? 0.2 : 10;  // seconds between two lines
    if (r.seconds < next_ && r.step < r.total_steps) return;
    next_ = r.seconds + pause;
    if (first_step_ == 0) {
      first_step_ = r.step;
      first_seconds_ = r.seconds;
    }
    const double done = static_cast<double>(r.step - first_step_);
    const auto to_do = static_cast<double>(r.total_steps - r.step);
    const std::string left =  // unknown until a second look: the first steps are slower
        done > 0 || to_do <= 0
            ? duration_text(to_do > 0 ? (r.seconds - first_seconds_) / done * to_do : 0)
            : "?";
    std::string line =
        fmt::format("epoch {}/{}  step {}/{}  loss {:.4f}  {:.0f} samples/s  {} left", r.epoch + 1,
                    r.epochs, r.step, r.total_steps, loss_, r.samples_per_second, left);
    if (bar_) {
      constexpr std::int64_t width = 24;
      const auto full = static_cast<std::size_t>(width * r.step / r.total_steps);
      line =
          "\r[" + std::string(full, '#') + std::string(width - full, '.') + "] " + line + "\x1b[K";
    } else {
      line += '\n';
    }
    *out_ << line << std::flush;
  }

  /// Writes a line of the epoch.
  void on_epoch(const EpochReport& r) {
    *out_ << fmt::format("{}epoch {}/{} done: mean loss {:.4f}, {:.0f} samples/s, {} so far\n",
                         bar_ ? "\r\x1b[K" : "", r.epoch + 1, r.epochs, r.loss,
                         r.samples_per_second, duration_text(r.seconds))
          << std::flush;
  }

 private:
  std::ostream* out_;
  bool bar_;
  double loss_ = 0;
  double next_ = 0;
  std::int64_t first_step_ = 0;
  double first_seconds_ = 0;
};

}}  // namespace flowmatch
