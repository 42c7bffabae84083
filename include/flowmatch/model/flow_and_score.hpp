#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <cstdint>
#include <utility>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/model/velocity_model.hpp"

namespace flowmatch { inline namespace v0 {

/// A velocity and what belongs to it at the same point, each [B, …].
struct VelocityAndScore {
  at::Tensor velocity;  ///< v(x, t)
  at::Tensor score;     ///< the gradient of log p_t at x, or what its network says of it
};

/// Stands where the velocities of other models name the scheduler of their path.
struct BridgeMarginals {};

namespace detail {

/// Throws OptionError unless a bridge can have this diffusion.
inline void check_bridge_sigma(double sigma) {
  if (!(sigma > 0) || !std::isfinite(sigma)) {
    throw OptionError("flow and score of a bridge of sigma " + number_text(sigma) +
                      "; choose a finite sigma above 0, that of the BridgePath");
  }
}

/// Calls a model of flow and score and cuts its output in two along dimension 1: v and, as `score`,
/// sigma^2 / 2 times the score. Throws ShapeError where it is not twice as wide as x.
template <class Model, class C>
VelocityAndScore call_flow_and_score(Model& model, const at::Tensor& x, const at::Tensor& t,
                                     const C& condition) {
  const at::Tensor both = call_model(model, x, t, condition);
  bool fits = both.defined() && x.dim() > 1 && both.dim() == x.dim();
  for (std::int64_t d = 0; fits && d < x.dim(); ++d)
    fits = both.size(d) == (d == 1 ? 2 : 1) * x.size(d);
  if (!fits) {
    throw ShapeError("a model of flow and score gave " + shape_text(both) + " for x of shape " +
                     shape_text(x) + "; give [B, 2 C, …] for x [B, C, …], the velocity first");
  }
  const std::int64_t c = x.size(1);
  return {both.narrow(1, 0, c), both.narrow(1, c, c)};
}

}  // namespace detail

/// A model trained by `FlowAndScoreLoss`, for the Sampler. It is a velocity, that of the
/// probability flow, for any solver of an ODE; `EulerMaruyama` and `SdeHeun` take its score, too,
/// and go both ways: forward by dx = (v + g^2 / 2 score) dt + g dW, and, on a grid from 1 to 0,
/// back to the source by dx = (v - g^2 / 2 score) dt + g dW, with the same marginals whatever g
/// (Tong et al. 2024b, "Simulation-free Schrödinger bridges via score and flow matching"). With g =
/// sigma and pairs by entropic transport that is the Schrödinger bridge itself, and its reversal:
///
///     fm::Sampler sampler(fm::FlowAndScore(net, sigma),
///                         fm::EulerMaruyama(fm::ConstantDiffusion(sigma)),
///                         fm::TimeGrid::uniform(100));
///
/// The model's output is [B, 2 C, …] for x [B, C, …]: the velocity, and sigma^2 / 2 times the
/// score. It is taken as the Sampler takes it, two networks as one module that joins their outputs
/// by at::cat({v, s}, 1). Throws OptionError unless sigma is finite and above 0, ShapeError for an
/// output of another shape.
template <class Model>
class FlowAndScore {
 public:
  /// No path with a scheduler: methods that are right along one of those only do not compile with
  /// it.
  using scheduler_type = BridgeMarginals;
  /// Solvers of the SDE take its score.
  static constexpr bool knows_score = true;

  /// Of a model and the `sigma` of the bridge that it was trained on.
  FlowAndScore(Model model, double sigma) : model_(std::move(model)), sigma_(sigma) {
    detail::check_bridge_sigma(sigma);
  }

  /// v(x, t[, condition]) [B, …].
  template <class C = NoCondition>
  requires VelocityModel<Model, C> at::Tensor operator()(const at::Tensor& x, const at::Tensor& t,
                                                         const C& condition = C{}) {
    return detail::call_flow_and_score(model_, x, t, condition).velocity;
  }
  /// The same with the score, of one evaluation.
  template <class C = NoCondition>
  requires VelocityModel<Model, C> VelocityAndScore velocity_and_score(const at::Tensor& x,
                                                                       const at::Tensor& t,
                                                                       const C& condition = C{}) {
    VelocityAndScore both = detail::call_flow_and_score(model_, x, t, condition);
    both.score = both.score.to(x.scalar_type()) * (2 / (sigma_ * sigma_));
    return both;
  }

  /// The model inside.
  Model& model() noexcept { return model_; }
  /// The bridge's diffusion.
  double sigma() const noexcept { return sigma_; }

 private:
  Model model_;
  double sigma_;
};
template <class M>
FlowAndScore(M&&, double) -> FlowAndScore<model_storage_t<M>>;

}}  // namespace flowmatch
