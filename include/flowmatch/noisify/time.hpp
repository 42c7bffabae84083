#pragma once

#include <ATen/Functions.h>

#include <cmath>
#include <concepts>
#include <string>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/random.hpp"

namespace flowmatch { inline namespace v0 {

/// Draws the times that training looks at.
/// 1. `s(n, options, rng)` gives [n] times in [0, 1] of the options' dtype, on any device.
template <class T>
concept TimeSampler = std::copyable<T> &&
    requires(const T& s, at::TensorOptions options, Rng& rng) {
  { s(std::int64_t{1}, options, rng) } -> std::convertible_to<at::Tensor>;
};

/// t ~ U[0, 1), clamped to [0, max]. The blog post's noisify has max = 0.999; the default clamps
/// nothing. Throws OptionError unless 0 < max <= 1 (but for roundings, 1e-12).
class UniformTime {
 public:
  /// Times above `max` become `max`.
  explicit UniformTime(double max = 1) : max_(max) {
    if (!(max > 0 && max <= 1 + 1e-12)) {
      throw OptionError("uniform times clamped at " + number_text(max) +
                        "; choose a maximum in (0, 1]");
    }
  }

  /// n times [n] of the dtype of `options`, on the device of `rng`.
  at::Tensor operator()(std::int64_t n, at::TensorOptions options, Rng& rng) const {
    return quantile(rng.uniform({n}, options));
  }
  /// The time below which a share u of all times lies; may overwrite u.
  at::Tensor quantile(at::Tensor u) const { return max_ < 1 ? u.clamp_max_(max_) : u; }

 private:
  double max_;
};

/// t = sigmoid(mean + stddev z), z ~ N(0, 1): most times in the middle, few at the ends (Esser et
/// al. 2024, eq. 19); a mean above 0 moves them towards the data. Throws OptionError unless mean is
/// finite and stddev > 0.
class LogitNormalTime {
 public:
  /// Mean and standard deviation are those of the normal variable.
  explicit LogitNormalTime(double mean = 0, double stddev = 1) : mean_(mean), stddev_(stddev) {
    if (!std::isfinite(mean) || !(stddev > 0) || !std::isfinite(stddev)) {
      throw OptionError("logit-normal times with mean " + number_text(mean) + " and stddev " +
                        number_text(stddev) + "; choose a finite mean and a finite stddev above 0");
    }
  }

  /// n times [n] of the dtype of `options`, on the device of `rng`.
  at::Tensor operator()(std::int64_t n, at::TensorOptions options, Rng& rng) const {
    return of_normal(rng.normal({n}, options));
  }
  /// The time below which a share u of all times lies.
  at::Tensor quantile(const at::Tensor& u) const { return of_normal(at::special_ndtri(u)); }

 private:
  at::Tensor of_normal(at::Tensor z) const { return z.mul_(stddev_).add_(mean_).sigmoid_(); }

  double mean_;
  double stddev_;
};

/// The same time for all samples. At 0 a velocity is trained to go all the way in one step of
/// Euler's, v(x_0, 0) = x_1 - x_0: with the pairs of a trained model its distillation (Liu et al.
/// 2023, section 2.2). Throws OptionError unless 0 <= t <= 1.
class FixedTime {
 public:
  /// Of the time t.
  explicit FixedTime(double t) : t_(t) {
    if (!(t >= 0 && t <= 1))
      throw OptionError("a fixed time of " + number_text(t) + "; choose one in [0, 1]");
  }

  /// n times [n] of the dtype of `options`, on the device of `rng`.
  at::Tensor operator()(std::int64_t n, at::TensorOptions options, Rng& rng) const {
    return at::full({n}, t_, options.device(rng.device()));
  }

 private:
  double t_;
};

/// The quantiles of a distribution of times at u_i = (u + i/n) mod 1, with one u ~ U[0, 1) for the
/// batch: each time by itself is as that distribution has it, and the n of a batch lie evenly, so
/// that its loss varies less (the low-discrepancy sampler of Kingma et al. 2021, appendix I.1).
/// `StratifiedTime(LogitNormalTime(0.8, 1.2))`.
template <class Time = UniformTime>
class StratifiedTime {
  static_assert(
      requires(const Time& time, at::Tensor u) { time.quantile(u); },
      "flowmatch: StratifiedTime needs times with a `quantile(u)`, which spread over an "
      "interval; see noisify/time.hpp");

 public:
  /// Of the distribution `time`.
  explicit StratifiedTime(Time time = Time()) : time_(time) {}

  /// n times [n] of the dtype of `options`, on the device of `rng`.
  at::Tensor operator()(std::int64_t n, at::TensorOptions options, Rng& rng) const {
    const at::Tensor even = at::arange(n, options.device(rng.device())).div_(n);
    return time_.quantile(even.add_(rng.uniform({1}, options)).frac_());
  }

 private:
  Time time_;
};

}}  // namespace flowmatch
