#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <limits>
#include <sstream>
#include <string>
#include <typeinfo>

#include "flowmatch/monitor/hooks.hpp"

namespace flowmatch { inline namespace v0 {

/// Minutes and seconds (or hours, minutes and seconds) as people write them: 0:07, 12:40, 2:05:00;
/// "?" for NaN and infinity.
inline std::string duration_text(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  const auto s = static_cast<std::int64_t>(seconds + 0.5);
  return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                  : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

/// Whether a stream is one of the program's own, std::cout, std::cerr or std::clog, and what it
/// writes to is a terminal.
inline bool on_terminal(const std::ostream& out) {
  const bool error = &out == &std::cerr || &out == &std::clog;
  if (!error && &out != &std::cout) return false;
  // It may have been led to a file or a string.
  const std::streambuf* const buffer = out.rdbuf();
  if (buffer == nullptr || typeid(*buffer) == typeid(std::filebuf) ||
      typeid(*buffer) == typeid(std::stringbuf)) {
    return false;
  }
  return ::isatty(error ? STDERR_FILENO : STDOUT_FILENO) == 1;
}

/// A hook that shows training's progress on a stream: epoch, step, loss, samples/s and the time
/// left; "-" where a number is not known. On a terminal one line that redraws itself, elsewhere a
/// plain line now and then, and on both a line an epoch. `bar` says which of the two; by default
/// `on_terminal` does.
class ProgressBar {
 public:
  /// On the stream `out`: a bar where that is a terminal.
  explicit ProgressBar(std::ostream& out = std::clog) : ProgressBar(out, on_terminal(out)) {}
  /// On the stream `out`; `bar` as above.
  ProgressBar(std::ostream& out, bool bar) : out_(&out), bar_(bar) {}

  /// Shows the step, now and then.
  void on_step(const StepReport& r) {
    if (r.seconds < seconds_) begin_anew();  // another call to fit
    seconds_ = r.seconds;
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
    std::string line = fmt::format("epoch {}/{}  step {}/{}  loss {}  {} samples/s  {} left",
                                   r.epoch + 1, r.epochs, r.step, r.total_steps, number(loss_, 4),
                                   number(r.samples_per_second, 0), left);
    if (bar_) {
      constexpr std::int64_t width = 24;
      const std::int64_t total = std::max<std::int64_t>(r.total_steps, 1);
      const auto full =
          static_cast<std::size_t>(std::clamp<std::int64_t>(width * r.step / total, 0, width));
      line =
          "\r[" + std::string(full, '#') + std::string(width - full, '.') + "] " + line + "\x1b[K";
    } else {
      line += '\n';
    }
    *out_ << line << std::flush;
  }

  /// Writes a line of the epoch.
  void on_epoch(const EpochReport& r) {
    *out_ << fmt::format("{}epoch {}/{} done: mean loss {}, {} samples/s, {} so far\n",
                         bar_ ? "\r\x1b[K" : "", r.epoch + 1, r.epochs, number(r.loss, 4),
                         number(r.samples_per_second, 0), duration_text(r.seconds))
          << std::flush;
  }

 private:
  void begin_anew() {
    loss_ = std::numeric_limits<double>::quiet_NaN();
    next_ = 0;
    first_step_ = 0;
  }

  static std::string number(double value, int digits) {
    return std::isnan(value) ? "-" : fmt::format("{:.{}f}", value, digits);
  }

  std::ostream* out_;
  bool bar_;
  double loss_ = std::numeric_limits<double>::quiet_NaN();
  double seconds_ = 0;  // of the last report
  double next_ = 0;
  std::int64_t first_step_ = 0;
  double first_seconds_ = 0;
};

}}  // namespace flowmatch
