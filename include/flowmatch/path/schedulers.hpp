#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <string>

#include "flowmatch/core/error.hpp"
#include "flowmatch/path/scheduler.hpp"

namespace flowmatch { inline namespace v0 {

/// The smallest denominator that formulas divide by: the square root of the dtype's machine epsilon
/// (3.5e-4 for float32, 1.5e-8 for float64), where rounding in the numerator and the error of the
/// limit are of one size.
inline double denominator_floor(at::ScalarType dtype) {
  return std::sqrt(dtype == at::kDouble
                       ? std::numeric_limits<double>::epsilon()
                       : static_cast<double>(std::numeric_limits<float>::epsilon()));
}

/// The straight path of conditional optimal transport: alpha_t = t, sigma_t = 1 - t (Lipman et al.
/// 2023, eq. 20 with sigma_min = 0; the blog post's drawing algorithm).
struct CondOTScheduler {
  /// The coefficients at t, of any shape.
  Coefficients operator()(const at::Tensor& t) const {
    const at::Tensor one = at::ones_like(t);
    return {t, 1 - t, one, -one};
  }
  /// The t with alpha_t / sigma_t = snr, for snr in [0, inf).
  at::Tensor snr_inverse(const at::Tensor& snr) const { return snr / (1 + snr); }
};

/// The path of Lipman et al. (2023, eq. 20) with its remaining noise: alpha_t = t, sigma_t = 1 - (1
/// - sigma) t, of noise x_0 that is standard normal, to data blurred by sigma. Throws OptionError
/// unless sigma is finite and at least 0; with 0 it is CondOTScheduler.
class TargetScheduler {
 public:
  static constexpr bool of_standard_normal = true;  ///< its formulas are those of Gaussian noise

  /// With noise of `sigma` left at t = 1.
  explicit TargetScheduler(double sigma) : sigma_(sigma) {
    if (!(sigma >= 0) || !std::isfinite(sigma)) {
      throw OptionError("a target scheduler of sigma " + number_text(sigma) +
                        "; choose a finite sigma of at least 0");
    }
  }

  /// The coefficients at t, of any shape.
  Coefficients operator()(const at::Tensor& t) const {
    return {t, 1 - (1 - sigma_) * t, at::ones_like(t), at::full_like(t, sigma_ - 1)};
  }
  /// The t with alpha_t / sigma_t = snr, for snr in [0, 1 / sigma].
  at::Tensor snr_inverse(const at::Tensor& snr) const {
    return (snr / (1 + (1 - sigma_) * snr)).clamp(0, 1);
  }

 private:
  double sigma_;
};

// A grid that was added up goes past its end by a rounding: under a root or a power that would be
// NaN, so there the schedulers take the end.

/// alpha_t = t^n, sigma_t = 1 - t^n with n >= 1. Throws OptionError otherwise: with n below 1 the
/// velocity is infinite at t = 0, where sampling begins.
class PolynomialScheduler {
 public:
  /// Of power n.
  explicit PolynomialScheduler(double n) : n_(n) {
    if (!(n >= 1) || !std::isfinite(n)) {
      throw OptionError("a polynomial scheduler of power " + number_text(n) +
                        "; choose a finite power of at least 1: below it the velocity is infinite "
                        "at t = 0");
    }
  }

  /// The coefficients at t, of any shape.
  Coefficients operator()(const at::Tensor& t) const {
    const at::Tensor inside = t.clamp_min(0);
    const at::Tensor alpha = inside.pow(n_);
    const at::Tensor d_alpha = n_ * inside.pow(n_ - 1);
    return {alpha, 1 - alpha, d_alpha, -d_alpha};
  }
  /// The t with alpha_t / sigma_t = snr, for snr in [0, inf).
  at::Tensor snr_inverse(const at::Tensor& snr) const { return (snr / (1 + snr)).pow(1 / n_); }

 private:
  double n_;
};

/// The variance-preserving diffusion seen from noise to data (Song et al. 2021, eq. 11):
/// alpha_t = exp(-T/2), sigma_t = sqrt(1 - exp(-T)), T = (1-t)^2 (beta_max - beta_min)/2 + (1-t)
/// beta_min. At t = 0 a little data remains (alpha = 0.0066 with the defaults). d_sigma_t grows
/// without bound as t goes to 1 (to sqrt(beta_max / 2) where beta_min is 0); it is evaluated at no
/// 1 - t below the dtype's machine epsilon. Throws OptionError unless 0 <= beta_min <= beta_max,
/// beta_max > 0.
class VPScheduler {
 public:
  static constexpr bool singular_at_end = true;  ///< see `Scheduler`

  /// The diffusion's noise rate goes from beta_min at the data to beta_max at the noise.
  explicit VPScheduler(double beta_min = 0.1, double beta_max = 20)
      : beta_min_(beta_min), beta_max_(beta_max) {
    if (!(beta_min >= 0) || !(beta_max >= beta_min) || !(beta_max > 0) ||
        !std::isfinite(beta_max)) {
      throw OptionError("a VP scheduler with beta_min " + number_text(beta_min) + " and beta_max " +
                        number_text(beta_max) +
                        "; choose 0 <= beta_min <= beta_max with beta_max above 0");
    }
  }

  /// The coefficients at t, of any shape.
  Coefficients operator()(const at::Tensor& t) const {
    const at::Tensor s = (1 - t).clamp_min(0);
    const auto big_t = [&](const at::Tensor& u) {
      return u.square() * (0.5 * (beta_max_ - beta_min_)) + u * beta_min_;
    };
    const auto rate = [&](const at::Tensor& u) { return u * (beta_max_ - beta_min_) + beta_min_; };
    const auto sigma = [&](const at::Tensor& u) { return at::sqrt(-at::expm1(-big_t(u))); };
    const at::Tensor alpha = at::exp(-0.5 * big_t(s));
    const double floor = denominator_floor(t.scalar_type());
    const at::Tensor beside = s.clamp_min(floor * floor);
    return {alpha, sigma(s), 0.5 * rate(s) * alpha,
            -0.5 * rate(beside) * alpha.square() / sigma(beside)};
  }
  /// The t with alpha_t / sigma_t = snr, for snr in [0, inf).
  at::Tensor snr_inverse(const at::Tensor& snr) const {
    // alpha^2 = exp(-T) and sigma^2 = 1 - alpha^2, so T = log(1 + 1/snr^2): the positive root of
    // T's quadratic in 1-t.
    // A ratio below that of t = 0 (there is a little data there) gives t = 0, not infinity /
    // infinity.
    const double a = 0.5 * (beta_max_ - beta_min_);
    const at::Tensor big_t = at::log1p(snr.square().reciprocal()).clamp_max(a + beta_min_);
    const at::Tensor root = at::sqrt(beta_min_ * beta_min_ + 4 * a * big_t);
    return (1 - 2 * big_t / (beta_min_ + root).clamp_min(1e-30)).clamp(0, 1);
  }

 private:
  double beta_min_;
  double beta_max_;
};

/// alpha_t = t, sigma_t = sqrt(1 - t^2). d_sigma_t = -t / sigma_t with the denominator kept at
/// `denominator_floor`.
struct LinearVPScheduler {
  static constexpr bool singular_at_end = true;  ///< see `Scheduler`

  /// The coefficients at t, of any shape.
  Coefficients operator()(const at::Tensor& t) const {
    const at::Tensor sigma = at::sqrt((1 - t).clamp_min(0) * (1 + t));
    return {t, sigma, at::ones_like(t), -t / sigma.clamp_min(denominator_floor(t.scalar_type()))};
  }
  /// The t with alpha_t / sigma_t = snr, for snr in [0, inf).
  at::Tensor snr_inverse(const at::Tensor& snr) const {
    return snr / at::hypot(snr, at::ones_like(snr));
  }
};

/// alpha_t = sin(pi t / 2), sigma_t = cos(pi t / 2) (Nichol & Dhariwal 2021 without the offset; the
/// DDIM baseline's schedule with s = 1 - t).
struct CosineScheduler {
  /// The coefficients at t, of any shape.
  Coefficients operator()(const at::Tensor& t) const {
    constexpr double half_pi = std::numbers::pi / 2;
    // sin(pi (1-t) / 2) is exact at t = 1, where cos(pi t / 2) is only about 1e-8.
    const at::Tensor alpha = at::sin(half_pi * t);
    const at::Tensor sigma = at::sin(half_pi * (1 - t));
    return {alpha, sigma, half_pi * sigma, -half_pi * alpha};
  }
  /// The t with alpha_t / sigma_t = snr, for snr in [0, inf).
  at::Tensor snr_inverse(const at::Tensor& snr) const {
    return at::atan(snr) * (2 / std::numbers::pi);
  }
};

}}  // namespace flowmatch
