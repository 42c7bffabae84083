#pragma once

#include <chrono>
#include <cstdint>
#include <limits>

namespace flowmatch { inline namespace v0 {

/// Seconds and samples since a call to `fit` began.
class Pace {
 public:
  /// Counts samples that went through.
  void add(std::int64_t samples) noexcept { samples_ += samples; }
  /// Since it was made.
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
  }
  /// All that were counted.
  std::int64_t samples() const noexcept { return samples_; }
  /// Samples a second, where that many `seconds` have passed; NaN before any have, and without a
  /// sample.
  double samples_per_second(double seconds) const noexcept {
    return seconds > 0 && samples_ > 0 ? static_cast<double>(samples_) / seconds
                                       : std::numeric_limits<double>::quiet_NaN();
  }

 private:
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  std::int64_t samples_ = 0;
};

}}  // namespace flowmatch
