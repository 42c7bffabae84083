#pragma once

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <limits>
#include <sstream>
#include <string>
#include <typeinfo>

#include "flowmatch/core/error.hpp"
#include "flowmatch/monitor/hooks.hpp"

namespace flowmatch { inline namespace v0 {

/// Minutes and seconds (or hours, minutes and seconds) as people write them: 0:07, 12:40, 2:05:00;
/// "?" for NaN and infinity.
inline std::string duration_text(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  const auto s = static_cast<std::int64_t>(seconds + 0.5);
  const auto two = [](std::int64_t n) { return (n < 10 ? "0" : "") + std::to_string(n); };
  return s < 3600 ? text_of(s / 60, ":", two(s % 60))
                  : text_of(s / 3600, ":", two(s / 60 % 60), ":", two(s % 60));
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
    std::string line = text_of("epoch ", r.epoch + 1, "/", r.epochs, "  step ", r.step, "/",
                               r.total_steps, "  loss ", number(loss_, 4), "  ",
                               number(r.samples_per_second, 0), " samples/s  ", left, " left");
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
    *out_ << text_of(bar_ ? "\r\x1b[K" : "", "epoch ", r.epoch + 1, "/", r.epochs,
                     " done: mean loss ", number(r.loss, 4), ", ", number(r.samples_per_second, 0),
                     " samples/s, ", duration_text(r.seconds), " so far\n")
          << std::flush;
  }

 private:
  void begin_anew() {
    loss_ = std::numeric_limits<double>::quiet_NaN();
    next_ = 0;
    first_step_ = 0;
  }

  static std::string number(double value, int digits) {
    if (std::isnan(value)) return "-";
    char text[400];  // of the largest number
    return {text,
            std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, digits).ptr};
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
