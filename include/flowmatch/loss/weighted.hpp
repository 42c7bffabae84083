#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <concepts>
#include <numbers>
#include <utility>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/loss/mse.hpp"
#include "flowmatch/loss/objective.hpp"
#include "flowmatch/model/velocity_model.hpp"

namespace flowmatch { inline namespace v0 {

/// How much the loss at a time counts.
/// 1. `w(t)` gives finite weights [B] of at least 0 for times t [B]. Any callable of that form is
/// one.
template <class W>
concept TimeWeight = std::copyable<W> && requires(const W& w, const at::Tensor& t) {
  { w(t) } -> std::convertible_to<at::Tensor>;
};

/// SD3's "cosmap" weight, 2 / (π (1 - 2 t + 2 t^2)): that of the cosine schedule, most in the
/// middle (Esser et al. 2024, section 3.1).
struct CosmapWeight {
  /// The weights [B].
  at::Tensor operator()(const at::Tensor& t) const {
    return 2 / (std::numbers::pi * (1 - 2 * t + 2 * t.square()));
  }
};

/// SD3's "sigma_sqrt" weight, 1 / (1-t)^2, which grows without bound towards the data; at most
/// `max`, 1e4 by default. Throws OptionError for a max that is not above 0.
class InverseNoiseWeight {
 public:
  /// Of at most `max`.
  explicit InverseNoiseWeight(double max = 1e4) : max_(max) {
    if (!(max > 0)) throw OptionError("a weight of at most 0; choose a maximum above 0");
  }
  /// The weights [B].
  at::Tensor operator()(const at::Tensor& t) const {
    return (1 - t).square().reciprocal().clamp_max(max_);
  }

 private:
  double max_;
};

/// The min-SNR weight of a velocity on the straight path: min(snr, gamma) (1-t)^2 with snr = (t /
/// (1-t))^2, which is min(snr, gamma) of the error of x_1 (Hang et al. 2023, eq. 8). Throws
/// OptionError for a gamma that is not above 0.
class MinSnrWeight {
 public:
  /// With their gamma.
  explicit MinSnrWeight(double gamma = 5) : gamma_(gamma) {
    if (!(gamma > 0)) throw OptionError("a min-SNR weight with gamma of 0; choose one above 0");
  }
  /// The weights [B].
  at::Tensor operator()(const at::Tensor& t) const {
    return at::minimum(t.square(), gamma_ * (1 - t).square());
  }

 private:
  double gamma_;
};

/// The mean over samples of w(t) loss(model(x_t, t, condition), target), for a loss with
/// `per_sample` (Mse, PseudoHuber).
///
///     fm::Trainer trainer(net, noisifier, options, fm::WeightedLoss(fm::MinSnrWeight()));
template <TimeWeight Weight, class Loss = Mse>
class WeightedLoss {
 public:
  static constexpr bool mean_over_samples = flowmatch::mean_over_samples<Loss>;  ///< see Objective

  /// Of a weight and a loss.
  explicit WeightedLoss(Weight weight, Loss loss = Loss())
      : weight_(std::move(weight)), loss_(std::move(loss)) {}

  /// The scalar loss of a training example. Throws ShapeError where the weights are not [B].
  template <class Model, class Condition>
  requires VelocityModel<Model, Condition> at::Tensor operator()(
      Model& model, const Noised<Condition>& noised) const {
    const at::Tensor each =
        loss_.per_sample(call_model(model, noised.x_t, noised.t, noised.condition), noised.target);
    const at::Tensor weights = weight_(noised.t);
    check_same_shape(weights, "the weights", each, "the samples' losses");
    return (weights.to(each.scalar_type()) * each).mean();
  }

 private:
  Weight weight_;
  Loss loss_;
};

}}  // namespace flowmatch
