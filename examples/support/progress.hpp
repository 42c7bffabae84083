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
  StepProgress(std::string what, std::int64_t total) : what_(std::move(what)), total_(total) {}

  void show(std::int64_t done) {
    const double now = std::chrono::duration<double>(Clock::now() - began_).count();
    if (now < next_ && done < total_) return;
    next_ = now + (on_terminal() ? 0.2 : 10);
    const double left =
        done > 0 ? now / static_cast<double>(done) * static_cast<double>(total_ - done) : 0;
    std::cerr << fmt::format("{}{}  step {}/{}  {} {}{}", on_terminal() ? "\r" : "", what_, done,
                             total_, flowmatch::duration_text(done < total_ ? left : now),
                             done < total_ ? "left" : "in all",
                             on_terminal() && done < total_ ? "\x1b[K" : "\n")
              << std::flush;
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::string what_;
  std::int64_t total_;
  Clock::time_point began_ = Clock::now();
  double next_ = 0;
};

}  // namespace support
