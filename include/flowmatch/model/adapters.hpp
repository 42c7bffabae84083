#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <utility>

#include "flowmatch/model/velocity_model.hpp"
#include "flowmatch/path/conversion.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

/// A model that predicts something else than the velocity, and the scheduler of its path.
template <class Model, Scheduler S>
class ConvertedModel {
 public:
  using scheduler_type = S;

  ConvertedModel(Model model, S scheduler)
      : model_(std::move(model)), scheduler_(std::move(scheduler)) {}

  /// The model inside.
  Model& model() noexcept { return model_; }

 protected:
  template <class C>
  at::Tensor predict(const at::Tensor& x, const at::Tensor& t, const C& condition) {
    const at::Tensor prediction = call_model(model_, x, t, condition);
    check_same_shape(prediction, "the model's output", x, "its input x");
    return prediction;
  }
  Coefficients coefficients(const at::Tensor& t, const at::Tensor& x) const {
    return coefficients_at(scheduler_, t, x);
  }
  const S& scheduler() const noexcept { return scheduler_; }

 private:
  Model model_;
  [[no_unique_address]] S scheduler_;  // empty, as a rule
};

}  // namespace detail

/// A network that predicts x_1, sampled as one that predicts the velocity:
///   v = d_alpha x_1(x, t) + d_sigma (x - alpha x_1(x, t)) / sigma.
/// At t = 1, where sigma vanishes, it is the velocity at t = 0.95. Towards it a small error of x_1
/// makes a large one of v, so a Sampler goes the last step by Euler's method; on the straight path
/// that step ends at x_1(x, t). Takes the model as the trainer does: holders and pointers share, an
/// lvalue module is kept by address. Throws ShapeError where x_1(x, t) is not of x's shape.
template <class Model, Scheduler S>
class VelocityFromX1 : public detail::ConvertedModel<Model, S> {
 public:
  /// Says so to the Sampler; for adapters around this one, too.
  static constexpr bool singular_at_end = true;

  using detail::ConvertedModel<Model, S>::ConvertedModel;

  /// v(x, t), [B, …].
  template <class C = NoCondition>
  requires VelocityModel<Model, C> at::Tensor operator()(const at::Tensor& x, const at::Tensor& t,
                                                         const C& condition = C{}) {
    check_time(t, x);
    const at::Tensor arrived = detail::vanishes(this->scheduler()(t).sigma_t);
    const at::Tensor asked = at::where(arrived, 0.95, t);
    return velocity_from_x_1(this->coefficients(asked, x), x, this->predict(x, asked, condition));
  }
};
template <class M, class S>
VelocityFromX1(M&&, S) -> VelocityFromX1<model_storage_t<M>, S>;

/// A network that predicts the noise epsilon, sampled as one that predicts the velocity:
///   v = d_alpha (x - sigma_s epsilon(x, s)) / alpha_s + d_sigma epsilon(x, s),  s = t.
/// Near t = 0 x is all noise, epsilon says little of the data, and a small error of it makes a
/// large one of v: while alpha_t is below 0.05, s is the time at which it is 0.05. Throws
/// ShapeError where epsilon(x, s) is not of x's shape.
template <class Model, Scheduler S>
class VelocityFromEpsilon : public detail::ConvertedModel<Model, S> {
 public:
  /// Of a network and the scheduler of the path that it was trained on.
  VelocityFromEpsilon(Model model, S scheduler)
      : detail::ConvertedModel<Model, S>(std::move(model), std::move(scheduler)),
        earliest_(detail::data_shows_at(this->scheduler())) {}

  /// v(x, t), [B, …].
  template <class C = NoCondition>
  requires VelocityModel<Model, C> at::Tensor operator()(const at::Tensor& x, const at::Tensor& t,
                                                         const C& condition = C{}) {
    check_time(t, x);
    const at::Tensor s = t.clamp_min(earliest_);
    const at::Tensor epsilon = this->predict(x, s, condition);
    const Coefficients there = this->coefficients(t, x);
    return there.d_alpha_t * x_1_from_epsilon(this->coefficients(s, x), x, epsilon) +
           there.d_sigma_t * epsilon;
  }

 private:
  double earliest_;
};
template <class M, class S>
VelocityFromEpsilon(M&&, S) -> VelocityFromEpsilon<model_storage_t<M>, S>;

}}  // namespace flowmatch
