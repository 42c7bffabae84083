#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <iostream>
#include <string>
#include <utility>

#include "flowmatch/monitor/progress.hpp"

namespace support {

inline bool on_terminal() { return isatty(STDERR_FILENO) == 1; }

/// The progress of work that is counted in steps: a line that redraws itself on a terminal, a plain
/// line every ten seconds elsewhere.
class StepProgress {
 public:
  explicit StepProgress(std::string what, std::ostream& out = std::cerr,
                        bool terminal = on_terminal())
      : what_(std::move(what)), out_(out), terminal_(terminal) {}
  ~StepProgress() {
    if (open_) out_ << std::endl;  // stopped on the way: what is said next gets its own line
  }
  StepProgress(const StepProgress&) = delete;
  StepProgress& operator=(const StepProgress&) = delete;

  /// `total` is 0 where nobody knows it.
  void show(std::int64_t done, std::int64_t total) {
    const double now = std::chrono::duration<double>(Clock::now() - began_).count();
    const bool last = done == total;
    if (now < next_ && !last) return;
    next_ = now + (terminal_ ? 0.2 : 10);
    std::string line = fmt::format("{}  step {}", what_, done);
    if (total > 0) line += fmt::format("/{}", total);
    if (last) {
      line += fmt::format("  {} in all", flowmatch::duration_text(now));
    } else if (total > 0 && done > 0) {
      const double left = now / static_cast<double>(done) * static_cast<double>(total - done);
      line += fmt::format("  {} left", flowmatch::duration_text(left));
    }
    open_ = terminal_ && !last;
    out_ << (terminal_ ? "\r" : "") << line << (terminal_ ? "\x1b[K" : "") << (open_ ? "" : "\n")
         << std::flush;
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::string what_;
  std::ostream& out_;
  bool terminal_;
  bool open_ = false;  // the line on the terminal has no end yet
  Clock::time_point began_ = Clock::now();
  double next_ = 0;
};

}  // namespace support
