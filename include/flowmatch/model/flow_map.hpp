#pragma once

#include <ATen/core/Tensor.h>

#include <concepts>
#include <utility>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/model/velocity_model.hpp"

namespace flowmatch { inline namespace v0 {

/// A model u(x, t, r[, condition]) of the average velocity of a flow from time t to time r:
///
///     (r - t) u(x_t, t, r) = x_r - x_t,     u(x, t, t) = v(x, t)
///
/// (Geng et al. 2025, "Mean flows for one-step generative modeling", eq. 3).
/// 1. `forward(x, t, r)`, with a condition of type C `forward(x, t, r, const C&)`, gives a tensor
/// of x's shape, for x [B, …] and t, r [B]. Held and called as a VelocityModel is.
template <class M, class C = NoCondition>
concept FlowMapModel = (std::same_as<C, NoCondition> &&
                        detail::Answers<std::remove_reference_t<M>, at::Tensor>) ||
                       detail::Answers<std::remove_reference_t<M>, at::Tensor, C>;

/// Calls such a model in whichever way it is held. As `call_model` does: a module gets x and the
/// condition in its own dtype, and both times in float64 where that is float64, else float32.
template <class M, class C = NoCondition>
requires FlowMapModel<M, C> at::Tensor call_flow_map(M& model, const at::Tensor& x,
                                                     const at::Tensor& t, const at::Tensor& r,
                                                     const C& condition = C{}) {
  const auto answer = [&](const at::Tensor& x_, const at::Tensor& t_, const at::Tensor& r_,
                          const C& condition_) {
    if constexpr (std::same_as<C, NoCondition> && detail::Answers<M, at::Tensor>) {
      return detail::answer(model, x_, t_, r_);
    } else {
      return detail::answer(model, x_, t_, r_, condition_);
    }
  };
  if constexpr (detail::HoldsModule<M>) {
    const at::Tensor own = detail::first_floating(detail::held_module(model));
    const at::ScalarType time = time_dtype(own.defined() ? own : x);
    if (!own.defined()) return answer(x, t.to(time), r.to(time), condition);
    return answer(x.to(own.scalar_type()), t.to(time), r.to(time),
                  detail::with_dtype(condition, own.scalar_type()));
  } else {
    return answer(x, t, r, condition);
  }
}

/// A model of average velocities for the Sampler. With `FlowMapStep` it goes from node to node of a
/// grid in one evaluation each, however far they are apart, forward or back; with the methods of
/// `ode` it is the velocity u(x, t, t). The model is taken as the Sampler takes it. Throws
/// ShapeError where its output is not of x's shape.
///
///     fm::Sampler sampler(fm::FlowMap{net}, fm::FlowMapStep{}, fm::TimeGrid::uniform(1));
template <class Model>
class FlowMap {
 public:
  /// Of a FlowMapModel.
  explicit FlowMap(Model model) : model_(std::move(model)) {}

  /// v(x, t) [B, …].
  template <class C = NoCondition>
  requires FlowMapModel<Model, C> at::Tensor operator()(const at::Tensor& x, const at::Tensor& t,
                                                        const C& condition = C{}) {
    return over(x, t, t, condition);
  }
  /// The average velocity from t to r [B, …].
  template <class C = NoCondition>
  requires FlowMapModel<Model, C> at::Tensor over(const at::Tensor& x, const at::Tensor& t,
                                                  const at::Tensor& r, const C& condition = C{}) {
    at::Tensor u = call_flow_map(model_, x, t, r, condition);
    check_same_shape(u, "the model's output", x, "its input x");
    return u;
  }

  /// The model inside.
  Model& model() noexcept { return model_; }

 private:
  Model model_;
};
template <class M>
FlowMap(M&&) -> FlowMap<model_storage_t<M>>;

}}  // namespace flowmatch
