#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "flowmatch/core/error.hpp"

namespace flowmatch { inline namespace v0 { namespace ode {

/// The steps of a fixed-step solve: step i evaluates the model from t[i] on and has the size dt[i].
class TimeGrid {
 public:
  /// One step of the grid.
  struct Step {
    double t;   ///< where it begins
    double dt;  ///< how far it goes
  };

  /// n equal steps from t0 to t1 (t1 < t0 integrates backwards). Throws OptionError for n < 1 or t0
  /// = t1.
  static TimeGrid uniform(std::int64_t n, double t0 = 0, double t1 = 1) {
    return shifted(n, 1, t0, t1);
  }

  /// n steps from t0 to t1 of which the first is about shift^2 times as long as the last: nodes
  ///   t0 + (t1 - t0) s u / (1 + (s - 1) u), u = i / n, s = shift
  /// (Esser et al. 2024, eq. 23, with their time running from data to noise). A shift above 1 has
  /// the small steps at t1, 1 makes equal steps. Throws OptionError for n < 1, t0 = t1 or a shift
  /// that is not finite and above 0.
  static TimeGrid shifted(std::int64_t n, double shift, double t0 = 0, double t1 = 1) {
    check_steps(n);
    if (!(shift > 0) || !std::isfinite(shift))
      throw OptionError("a time grid with shift " + number_text(shift) +
                        "; choose a finite one above 0");
    std::vector<double> times;
    for (std::int64_t i = 0; i <= n; ++i) {
      const double u = static_cast<double>(i) / static_cast<double>(n);
      times.push_back(i == n ? t1 : t0 + (t1 - t0) * (shift * u / (1 + (shift - 1) * u)));
    }
    return nodes(times);
  }

  /// The blog post's grid: evaluations at linspace(0, 1, n), each with dt = 1/n. Not a uniform
  /// grid: it evaluates the model later than the state has come, the last time at t = 1. For
  /// Euler's method only. Throws OptionError for n < 1.
  static TimeGrid post(std::int64_t n) {
    check_steps(n);
    TimeGrid grid(0, 1);
    for (std::int64_t i = 0; i < n; ++i) {
      grid.steps_.push_back({n == 1 ? 0.0 : static_cast<double>(i) / static_cast<double>(n - 1),
                             1 / static_cast<double>(n)});
    }
    grid.contiguous_ = false;
    return grid;
  }

  /// Steps between the given times, which must rise or fall all the way. Throws OptionError
  /// otherwise.
  static TimeGrid nodes(const std::vector<double>& times) {
    if (times.size() < 2)
      throw OptionError("a time grid needs at least two times; got " +
                        std::to_string(times.size()));
    TimeGrid grid(times.front(), times.back());
    for (std::size_t i = 0; i + 1 < times.size(); ++i) {
      const double dt = times[i + 1] - times[i];
      if (!std::isfinite(dt) || dt == 0 || (dt > 0) != (times[1] > times[0])) {
        throw OptionError("the times of a grid must be finite and rise or fall all the way; got " +
                          number_text(times[i]) + " then " + number_text(times[i + 1]));
      }
      grid.steps_.push_back({times[i], dt});
    }
    return grid;
  }

  /// The same times the other way round. Throws OptionError for the post's grid, which has none.
  TimeGrid reversed() const {
    if (!contiguous_) {
      throw OptionError("the post's time grid cannot be walked back; use TimeGrid::uniform");
    }
    std::vector<double> times = {t1_};
    for (std::size_t i = steps_.size(); i-- > 0;) times.push_back(steps_[i].t);
    return nodes(times);
  }

  /// The same without its last step. Throws OptionError where it has no other.
  TimeGrid without_last() const {
    TimeGrid grid = *this;
    if (steps_.size() < 2) throw OptionError("a time grid needs at least one step");
    grid.steps_.pop_back();
    grid.t1_ = steps_.back().t;
    return grid;
  }

  /// In order.
  const std::vector<Step>& steps() const noexcept { return steps_; }
  /// The first time.
  double t0() const noexcept { return t0_; }
  /// The last time.
  double t1() const noexcept { return t1_; }
  /// Each step begins where the one before ends; not so the post's.
  bool contiguous() const noexcept { return contiguous_; }

 private:
  TimeGrid(double t0, double t1) : t0_(t0), t1_(t1) {}

  static void check_steps(std::int64_t n) {
    if (n < 1)
      throw OptionError("a time grid of " + std::to_string(n) + " steps; choose at least 1");
  }

  std::vector<Step> steps_;
  double t0_;
  double t1_;
  bool contiguous_ = true;
};

}}}  // namespace flowmatch::ode
