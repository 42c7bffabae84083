#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <utility>

#include "flowmatch/model/velocity_model.hpp"
#include "flowmatch/path/conversion.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

/// A velocity model made of a model that predicts something else and a scheduler. `Prediction` says
/// how: velocity(c, x, prediction), and `denominator(c)`, which vanishes at an end where the
/// prediction says nothing of the velocity, while beside it, at `near_end`, it does.
template <class Prediction, class Model, Scheduler S>
class ConvertedModel {
 public:
  using scheduler_type = S;

  ConvertedModel(Model model, S scheduler)
      : model_(std::move(model)), scheduler_(std::move(scheduler)) {}

  template <class C = NoCondition>
  requires VelocityModel<Model, C> at::Tensor operator()(const at::Tensor& x, const at::Tensor& t,
                                                         const C& condition = C{}) {
    check_time(t, x);
    const at::Tensor asked =
        at::where(vanishes(Prediction::denominator(scheduler_(t))), Prediction::near_end, t);
    return Prediction::velocity(coefficients_at(scheduler_, asked, x), x,
                                call_model(model_, x, asked, condition));
  }

  /// The model inside.
  Model& model() noexcept { return model_; }

 private:
  Model model_;
  [[no_unique_address]] S scheduler_;  // empty, as a rule
};

struct X1Prediction {
  static constexpr double near_end = 0.95;
  static at::Tensor denominator(const Coefficients& c) { return c.sigma_t; }
  static at::Tensor velocity(const Coefficients& c, const at::Tensor& x, const at::Tensor& x_1) {
    return velocity_from_x_1(c, x, x_1);
  }
};

struct EpsilonPrediction {
  static constexpr double near_end = 0.05;
  static at::Tensor denominator(const Coefficients& c) { return c.alpha_t; }
  static at::Tensor velocity(const Coefficients& c, const at::Tensor& x,
                             const at::Tensor& epsilon) {
    return velocity_from_epsilon(c, x, epsilon);
  }
};

}  // namespace detail

/// A network that predicts x_1, sampled as one that predicts the velocity:
///   v = d_alpha x_1(x, t) + d_sigma (x - alpha x_1(x, t)) / sigma.
/// At t = 1, where sigma vanishes, it is the velocity at t = 0.95. Towards it a small error of x_1
/// makes a large one of v, so a Sampler goes the last step to t = 1 by Euler's method, which ends
/// at x_1(x, t). Takes the model as the trainer does: holders and pointers share, an lvalue module
/// is kept by address.
template <class Model, Scheduler S>
class VelocityFromX1 : public detail::ConvertedModel<detail::X1Prediction, Model, S> {
 public:
  /// Says so to the Sampler; for adapters around this one, too.
  static constexpr bool singular_at_end = true;

  using detail::ConvertedModel<detail::X1Prediction, Model, S>::ConvertedModel;
};
template <class M, class S>
VelocityFromX1(M&&, S) -> VelocityFromX1<model_storage_t<M>, S>;

/// A network that predicts the noise epsilon, sampled as one that predicts the velocity:
///   v = d_alpha (x - sigma epsilon(x, t)) / alpha + d_sigma epsilon(x, t).
/// At t = 0, where alpha vanishes and x is all noise, it is the velocity at t = 0.05.
template <class Model, Scheduler S>
class VelocityFromEpsilon : public detail::ConvertedModel<detail::EpsilonPrediction, Model, S> {
 public:
  using detail::ConvertedModel<detail::EpsilonPrediction, Model, S>::ConvertedModel;
};
template <class M, class S>
VelocityFromEpsilon(M&&, S) -> VelocityFromEpsilon<model_storage_t<M>, S>;

}}  // namespace flowmatch
