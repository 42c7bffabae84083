#pragma once

#include <concepts>
#include <utility>

#include "flowmatch/loss/mse.hpp"
#include "flowmatch/model/velocity_model.hpp"

namespace flowmatch { inline namespace v0 {

/// What training minimises.
/// 1. `o(model, noised)` gives a scalar tensor with a gradient to the model's parameters.
template <class O, class Model, class Condition = NoCondition>
concept Objective = std::copyable<O> &&
    requires(const O& o, Model& model, const Noised<Condition>& noised) {
  { o(model, noised) } -> std::convertible_to<at::Tensor>;
};

/// loss(model(x_t, t, condition), target), with the mean squared error by default: the conditional
/// flow matching objective E ||v(x_t, t) - dx_t||^2 (Lipman et al. 2023, eq. 9).
template <class Loss = Mse>
class PredictionLoss {
 public:
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
