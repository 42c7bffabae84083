#pragma once

#include <concepts>
#include <utility>

#include "flowmatch/loss/mse.hpp"
#include "flowmatch/model/velocity_model.hpp"

namespace flowmatch { inline namespace v0 {

/// What training minimises.
/// 1. `o(model, noised)` gives a scalar tensor with a gradient to the model's parameters.
/// 2. Where `O::mean_over_samples` is there and true, that of a batch is the mean of those of its
///    parts, by their shares of the samples, and may be computed so.
template <class O, class Model, class Condition = NoCondition>
concept Objective = std::copyable<O> &&
    requires(const O& o, Model& model, const Noised<Condition>& noised) {
  { o(model, noised) } -> std::convertible_to<at::Tensor>;
};

/// Whether an objective, or a loss, says that it is a mean over samples.
template <class O>
inline constexpr bool mean_over_samples = requires {
  requires O::mean_over_samples;
};

/// loss(model(x_t, t, condition), target), with the mean squared error by default: the conditional
/// flow matching objective E ||v(x_t, t) - dx_t||^2 (Lipman et al. 2023, eq. 9).
template <class Loss = Mse>
class PredictionLoss {
 public:
  static constexpr bool mean_over_samples = flowmatch::mean_over_samples<Loss>;  ///< see Objective

  PredictionLoss() = default;
  /// Measures by `loss(prediction, target)`.
  explicit PredictionLoss(Loss loss) : loss_(std::move(loss)) {}

  /// The scalar loss of a training example.
  template <class Model, class Condition>
  requires VelocityModel<Model, Condition> at::Tensor operator()(
      Model& model, const Noised<Condition>& noised) const {
    return loss_(call_model(model, noised.x_t, noised.t, noised.condition), noised.target);
  }

 private:
  Loss loss_{};
};

}}  // namespace flowmatch
