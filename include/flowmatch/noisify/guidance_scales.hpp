#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <cstdint>
#include <tuple>
#include <utility>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/noisify/noisifier.hpp"

namespace flowmatch { inline namespace v0 {

/// A noisifier for models that are told how far they are to be guided: conditions are pairs of the
/// data's and a scale, float [B], and each example's scale is drawn anew, of density ~
/// scale^-power in [1, most] (improved mean flows, arXiv 2512.02012, section 4.2). The scales that
/// the data brings count for nothing. `SelfGuidedLoss` trains by it.
///
///     fm::GuidanceScales noisifier(fm::TwoTimeNoisifier(fm::LinearPath{}), 4);
///     fm::TensorBatches data(images, std::tuple{labels, torch::ones({n})}, 128);
///
/// Throws OptionError for a `most` below 1 and for a power that is not finite.
template <class NoisifierT>
class GuidanceScales {
 public:
  /// Of a noisifier.
  explicit GuidanceScales(NoisifierT noisifier, double most = 8, double power = 1)
      : noisifier_(std::move(noisifier)), most_(most), power_(power) {
    if (!(most >= 1) || !std::isfinite(most) || !std::isfinite(power)) {
      throw OptionError("guidance scales up to " + number_text(most) + " with power " +
                        number_text(power) +
                        "; choose a finite end of at least 1 and a finite "
                        "power");
    }
  }

  /// A training example of a batch.
  template <class C>
  requires Noisifier<NoisifierT, std::tuple<C, at::Tensor>>
  auto operator()(const Batch<std::tuple<C, at::Tensor>>& batch, Rng& rng) const {
    auto noised = noisifier_(batch, rng);
    const std::int64_t n = noised.x_t.size(0);
    std::get<1>(noised.condition) = quantile(
        rng.uniform({n}, at::TensorOptions(time_dtype(noised.x_t))).to(noised.x_t.device()));
    return noised;
  }
  /// The scale below which a share u of all scales lies.
  at::Tensor quantile(const at::Tensor& u) const {
    const double left = 1 - power_;
    // Beside a power of 1 the roots would lose their digits.
    if (std::abs(left) < 1e-6) return (u * std::log(most_)).exp();
    return (1 + u * (std::pow(most_, left) - 1)).pow(1 / left);
  }

  /// The noisifier inside.
  const NoisifierT& noisifier() const noexcept { return noisifier_; }

 private:
  NoisifierT noisifier_;
  double most_;
  double power_;
};

}}  // namespace flowmatch
