#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <cstdint>
#include <numbers>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/noisify/time.hpp"

namespace flowmatch { inline namespace v0 {

/// Most times near the noise, or near the data, by a power: of density
///
///     p(t) = (k+1) (1 - t/max)^k / max     for t in [0, max]
///
/// with k > 0 most near the noise, at t = 0; with k in (-1, 0) most near `max`. π0, a policy of
/// robots, is trained with k = 0.5 and max = 0.999, which is its t = 0.999 (1 - u) with u ~
/// Beta(1.5, 1) (Black et al. 2024, appendix B): the defaults. Throws OptionError unless k > -1 is
/// finite and 0 < max <= 1.
class PowerTime {
 public:
  /// Of power k, below `max`.
  explicit PowerTime(double k = 0.5, double max = 0.999) : k_(k), max_(max) {
    if (!(k > -1) || !std::isfinite(k) || !(max > 0 && max <= 1)) {
      throw OptionError("times of power " + number_text(k) + " below " + number_text(max) +
                        "; choose a finite power above -1 and a maximum in (0, 1]");
    }
  }

  /// n times [n] of the dtype of `options`, on the device of `rng`.
  at::Tensor operator()(std::int64_t n, at::TensorOptions options, Rng& rng) const {
    return quantile(rng.uniform({n}, options));
  }
  /// The time below which a share u of all times lies.
  at::Tensor quantile(const at::Tensor& u) const { return max_ * (1 - (1 - u).pow(1 / (k_ + 1))); }

 private:
  double k_;
  double max_;
};

/// Times t = u - s (sin^2(π u / 2) - u), u ~ U[0, 1): with s > 0 most in the middle, with s < 0
/// most at the ends, 0 uniform; none is left out (Esser et al. 2024, eq. 20, which the other
/// direction of time leaves as it is). Throws OptionError unless -1 <= s <= 2 / (π - 2) = 1.752.
class ModeTime {
 public:
  /// Of the scale s; theirs is 1.29.
  explicit ModeTime(double s = 1.29) : s_(s) {
    if (!(s >= -1 && s <= 2 / (std::numbers::pi - 2))) {
      throw OptionError("mode times of scale " + number_text(s) + "; choose one in [-1, 1.752]");
    }
  }

  /// n times [n] of the dtype of `options`, on the device of `rng`.
  at::Tensor operator()(std::int64_t n, at::TensorOptions options, Rng& rng) const {
    return quantile(rng.uniform({n}, options));
  }
  /// The time below which a share u of all times lies.
  at::Tensor quantile(const at::Tensor& u) const {
    return (u - s_ * ((u * (std::numbers::pi / 2)).sin().square() - u)).clamp(0, 1);
  }

 private:
  double s_;
};

/// The times of EDM, ln(sigma) ~ N(-1.2, 1.2^2) (Karras et al. 2022, table 1), on the straight
/// path, where sigma = (1-t) / t: logit-normal ones. `mean` and `stddev` are those of ln(sigma).
inline LogitNormalTime edm_time(double mean = -1.2, double stddev = 1.2) {
  return LogitNormalTime(-mean, stddev);
}

}}  // namespace flowmatch
