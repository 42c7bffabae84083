#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/loss/mse.hpp"

namespace flowmatch { inline namespace v0 {

/// sqrt(|prediction - target|^2 + c^2) - c with the norm of a sample's D elements, divided by
/// sqrt(D): a quadratic for small errors and their norm for large ones, so that outliers weigh less
/// than in the mean squared error (Charbonnier et al. 1997; Song & Dhariwal 2023, section 3.3, for
/// flows Lee et al. 2024). c = 0.00054 sqrt(D), theirs, where none is given. Throws OptionError for
/// one that is not above 0, ShapeError where the shapes differ.
class PseudoHuber {
 public:
  static constexpr bool mean_over_samples = true;  ///< see Objective

  PseudoHuber() = default;
  /// With a c of your own.
  explicit PseudoHuber(double c) : c_(c) {
    if (!(c > 0) || !std::isfinite(c)) {
      throw OptionError("a pseudo-Huber loss with c = " + number_text(c) +
                        "; choose a finite one above 0");
    }
  }

  /// The loss of each sample [B].
  at::Tensor per_sample(const at::Tensor& prediction, const at::Tensor& target) const {
    // Mse's mean is |…|^2 / D: so the roots are of means, and c of one element.
    const at::Tensor mean = Mse{}.per_sample(prediction, target);
    const auto size = static_cast<double>(target.numel()) /
                      static_cast<double>(std::max<std::int64_t>(target.size(0), 1));
    const double c = c_ > 0 ? c_ / std::sqrt(size) : 0.00054;
    return (mean + c * c).sqrt() - c;
  }
  /// The mean over samples, a scalar.
  at::Tensor operator()(const at::Tensor& prediction, const at::Tensor& target) const {
    return per_sample(prediction, target).mean();
  }

 private:
  double c_ = 0;
};

}}  // namespace flowmatch
