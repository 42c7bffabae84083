#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <iostream>
#include <string>
#include <utility>

#include "flowmatch/train/progress.hpp"

namespace support {

inline bool on_terminal() { return isatty(STDERR_FILENO) == 1; }

/// The progress of work that is counted in steps, on stderr: a bar on a terminal, a plain line
/// every ten seconds elsewhere.
class StepProgress {
 public:
  explicit StepProgress(std::string what) : what_(std::move(what)) {}

  /// `total` is 0 where nobody knows it.
  void show(std::int64_t done, std::int64_t total) {
    const double now = std::chrono::duration<double>(Clock::now() - began_).count();
    const bool last = done == total;
    if (now < next_ && !last) return;
    next_ = now + (on_terminal() ? 0.2 : 10);
    std::string line = fmt::format("{}  step {}", what_, done);
    if (total > 0) {
      const double left = now / static_cast<double>(done) * static_cast<double>(total - done);
      line += fmt::format("/{}  {} {}", total, flowmatch::duration_text(last ? now : left),
                          last ? "in all" : "left");
    }
    std::cerr << (on_terminal() ? "\r" : "") << line << (on_terminal() && !last ? "\x1b[K" : "\n")
              << std::flush;
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::string what_;
  Clock::time_point began_ = Clock::now();
  double next_ = 0;
};

}  // namespace support
