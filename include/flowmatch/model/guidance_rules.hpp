#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <concepts>
#include <utility>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/path/schedulers.hpp"

namespace flowmatch { inline namespace v0 {

/// How the velocities of two models make one that goes further from the worse one.
/// 1. `r(good, bad, x, t)` gives a velocity [B, …] for those of both models [B, …] at x [B, …] and
/// t [B].
/// 2. It may have `r.applies(t)`: false where it gives `good` at all these times, so that the other
/// model need not be asked.
template <class R>
concept GuidanceRule = std::copyable<R> && requires(const R& r, const at::Tensor& x) {
  { r(x, x, x, x) } -> std::convertible_to<at::Tensor>;
};

namespace detail {

inline double checked_scale(double scale) {
  if (!std::isfinite(scale)) {
    throw OptionError("a guidance scale of " + number_text(scale) + "; choose a finite one");
  }
  return scale;
}

}  // namespace detail

/// v = bad + scale (good - bad) (Ho & Salimans 2022; of two models Karras et al. 2024). The scale
/// counts as in diffusers: 1 is the good model alone, 0 the bad one; their w is scale - 1.
class LinearGuidance {
 public:
  /// Of a scale. Throws OptionError for one that is not finite.
  explicit LinearGuidance(double scale) : scale_(detail::checked_scale(scale)) {}

  /// The velocity [B, …].
  at::Tensor operator()(const at::Tensor& good, const at::Tensor& bad, const at::Tensor&,
                        const at::Tensor&) const {
    return at::lerp(bad, good, scale_);
  }
  /// Not for a scale of 1.
  bool applies(const at::Tensor&) const { return scale_ != 1; }

 private:
  double scale_;
};

/// CFG-Zero* (Fan et al. 2025): the bad velocity is first scaled to fit the good one best, v = s
/// bad
/// + scale (good - s bad) with s = <good, bad> / |bad|^2 for each sample; and up to the time
/// `zero_until` the velocity is zero, as there it says less than nothing: by default at t = 0
/// alone, which is the first step of Euler's method; below 0 never.
class ZeroStarGuidance {
 public:
  /// Of a scale. Throws OptionError for one that is not finite, and for zero_until of 1 or more.
  explicit ZeroStarGuidance(double scale, double zero_until = 0)
      : scale_(detail::checked_scale(scale)), zero_until_(zero_until) {
    if (!(zero_until < 1)) {
      throw OptionError("zero_until is " + number_text(zero_until) + "; choose one below 1");
    }
  }

  /// The velocity [B, …].
  at::Tensor operator()(const at::Tensor& good, const at::Tensor& bad, const at::Tensor& x,
                        const at::Tensor& t) const {
    const at::Tensor fit = dot_per_sample(good, bad) / dot_per_sample(bad, bad).clamp_min(1e-8);
    const at::Tensor v = at::lerp(fit * bad, good, scale_);
    return at::where(expand_time(t, x) <= zero_until_, 0.0, v);
  }

 private:
  double scale_;
  double zero_until_;
};

/// Options of `ProjectedGuidance`.
struct ProjectedOptions {
  double parallel = 0;   ///< how much of the difference along the prediction is kept, 0 to 1
  double threshold = 0;  ///< the largest norm of the difference, in x_1's unit; 0: any
};

/// Adaptive projected guidance on the straight path (Sadat et al. 2024, without momentum): of the
/// difference between the predictions of x_1, the part along the good one, which oversaturates, is
/// weighted by `parallel`, and its norm is at most `threshold`: v = good + (scale - 1) of what is
/// left of good - bad.
class ProjectedGuidance {
 public:
  /// Of the path that its predictions are right for.
  using scheduler_type = CondOTScheduler;

  /// Of a scale. Throws OptionError for options out of range.
  explicit ProjectedGuidance(double scale, ProjectedOptions options = {})
      : scale_(detail::checked_scale(scale)), options_(options) {
    if (!(options.parallel >= 0 && options.parallel <= 1) || !(options.threshold >= 0)) {
      throw OptionError("projected guidance with parallel " + number_text(options.parallel) +
                        " and threshold " + number_text(options.threshold) +
                        "; choose the first in [0, 1] and the other at least 0");
    }
  }

  /// The velocity [B, …].
  at::Tensor operator()(const at::Tensor& good, const at::Tensor& bad, const at::Tensor& x,
                        const at::Tensor& t) const {
    const at::Tensor left = (1 - expand_time(t, x)).to(x.scalar_type());
    const at::Tensor x_1 = x + left * good;
    at::Tensor difference = good - bad;
    if (options_.threshold > 0) {
      const at::Tensor norm = (left * dot_per_sample(difference, difference).sqrt());
      difference = difference * (options_.threshold / norm.clamp_min(1e-12)).clamp_max(1);
    }
    const at::Tensor along =
        dot_per_sample(difference, x_1) / dot_per_sample(x_1, x_1).clamp_min(1e-12) * x_1;
    return good + (scale_ - 1) * (difference - (1 - options_.parallel) * along);
  }
  /// Not for a scale of 1.
  bool applies(const at::Tensor&) const { return scale_ != 1; }

 private:
  double scale_;
  ProjectedOptions options_;
};

namespace detail {

/// A rule inside another is right for the same path.
template <class Rule>
struct PathOfRule {};
template <class Rule>
requires requires { typename Rule::scheduler_type; }
struct PathOfRule<Rule> {
  using scheduler_type = typename Rule::scheduler_type;
};

}  // namespace detail

/// A rule at times in [from, to] alone, the good model elsewhere: guidance spoils the first steps
/// and wastes the last ones (Kynkäänniemi et al. 2024). On the CPU the other model is not asked
/// there.
template <GuidanceRule Rule>
class IntervalGuidance : public detail::PathOfRule<Rule> {
 public:
  /// Of a rule. Throws OptionError unless from <= to.
  IntervalGuidance(Rule rule, double from, double to)
      : rule_(std::move(rule)), from_(from), to_(to) {
    if (!(from <= to)) {
      throw OptionError("guidance from " + number_text(from) + " to " + number_text(to) +
                        "; choose an interval of times");
    }
  }

  /// The velocity [B, …], of the `good` and the `bad` one.
  at::Tensor operator()(const at::Tensor& good, const at::Tensor& bad, const at::Tensor& x,
                        const at::Tensor& t) const {
    return at::where(expand_time(inside(t), x), rule_(good, bad, x, t), good);
  }
  /// Where one of the times lies inside; on other devices always, as a look would hold them up.
  bool applies(const at::Tensor& t) const {
    if constexpr (requires { rule_.applies(t); }) {
      if (!rule_.applies(t)) return false;
    }
    return !t.is_cpu() || inside(t).any().template item<bool>();
  }

 private:
  at::Tensor inside(const at::Tensor& t) const { return (t >= from_).logical_and(t <= to_); }

  Rule rule_;
  double from_;
  double to_;
};

}}  // namespace flowmatch
