#pragma once

#include <type_traits>
#include <utility>

#include "flowmatch/model/velocity_model.hpp"
#include "flowmatch/path/conversion.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

/// A velocity model made of a model that predicts something else and a scheduler: convert(c, x,
/// prediction).
template <class Convert, class Model, Scheduler S>
class ConvertedModel {
 public:
  ConvertedModel(Model model, S scheduler)
      : model_(std::move(model)), scheduler_(std::move(scheduler)) {}

  template <class C = NoCondition>
  requires VelocityModel<Model, C> at::Tensor operator()(const at::Tensor& x, const at::Tensor& t,
                                                         const C& condition = C{}) {
    return Convert{}(coefficients_at(scheduler_, t, x), x, call_model(model_, x, t, condition));
  }

  /// The model inside.
  Model& model() noexcept { return model_; }

 private:
  Model model_;
  [[no_unique_address]] S scheduler_;  // empty, as a rule
};

struct X1ToVelocity {
  at::Tensor operator()(const Coefficients& c, const at::Tensor& x, const at::Tensor& x_1) const {
    return velocity_from_x_1(c, x, x_1);
  }
};

struct EpsilonToVelocity {
  at::Tensor operator()(const Coefficients& c, const at::Tensor& x,
                        const at::Tensor& epsilon) const {
    return velocity_from_epsilon(c, x, epsilon);
  }
};

}  // namespace detail

/// A network that predicts x_1, sampled as one that predicts the velocity: v = (d_sigma/sigma) x +
/// (D/sigma) x_1(x, t). Finite at t = 1 (see path/conversion.hpp). Takes the model as the trainer
/// does: holders and shared_ptr share, an lvalue module is kept by address.
template <class Model, Scheduler S>
class VelocityFromX1 : public detail::ConvertedModel<detail::X1ToVelocity, Model, S> {
 public:
  using detail::ConvertedModel<detail::X1ToVelocity, Model, S>::ConvertedModel;
};
template <class M, class S>
VelocityFromX1(M&&, S) -> VelocityFromX1<model_storage_t<M>, S>;

/// A network that predicts the noise epsilon, sampled as one that predicts the velocity:
/// v = (d_alpha/alpha) x - (D/alpha) epsilon(x, t). Finite at t = 0.
template <class Model, Scheduler S>
class VelocityFromEpsilon : public detail::ConvertedModel<detail::EpsilonToVelocity, Model, S> {
 public:
  using detail::ConvertedModel<detail::EpsilonToVelocity, Model, S>::ConvertedModel;
};
template <class M, class S>
VelocityFromEpsilon(M&&, S) -> VelocityFromEpsilon<model_storage_t<M>, S>;

}}  // namespace flowmatch
