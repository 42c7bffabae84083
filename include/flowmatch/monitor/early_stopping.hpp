#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "flowmatch/core/error.hpp"
#include "flowmatch/monitor/hooks.hpp"

namespace flowmatch { inline namespace v0 {

/// Says when a loss has stopped falling: each call takes the next value and answers Next::stop from
/// the `patience`-th value in a row on that did not fall below the best one by more than
/// `min_delta`. NaN never does.
///
/// It depends on the values alone: a run that resumes gives it the earlier ones again, in order.
/// Throws OptionError for a patience below 1 and a min_delta that is negative or not finite.
class EarlyStopping {
 public:
  /// With no loss so far.
  explicit EarlyStopping(std::int64_t patience, double min_delta = 0)
      : patience_(patience), min_delta_(min_delta) {
    if (patience < 1) {
      throw OptionError(text_of("patience is ", patience, "; choose at least 1"));
    }
    if (!(min_delta >= 0) || !std::isfinite(min_delta)) {
      throw OptionError(text_of("min_delta is ", min_delta, "; choose a finite one from 0 on"));
    }
  }

  /// Says what follows from this `loss`.
  Next operator()(double loss) {
    if (loss < best_ - min_delta_) {
      best_ = loss;
      waited_ = 0;
    } else {
      ++waited_;
    }
    return waited_ >= patience_ ? Next::stop : Next::proceed;
  }

  /// The lowest value that counted; infinity before the first.
  double best() const noexcept { return best_; }

 private:
  std::int64_t patience_;
  double min_delta_;
  double best_ = std::numeric_limits<double>::infinity();
  std::int64_t waited_ = 0;
};

}}  // namespace flowmatch
