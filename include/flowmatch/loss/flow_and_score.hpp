#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <concepts>

#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/loss/mse.hpp"
#include "flowmatch/model/flow_and_score.hpp"
#include "flowmatch/model/velocity_model.hpp"

namespace flowmatch { inline namespace v0 {

/// The objective of simulation-free score and flow matching, [SF]^2M, of examples by
/// `VelocityNoisifier(BridgePath(sigma), …)`: one network learns the velocity v of the bridge's
/// flow and s, sigma^2 / 2 times the score of its marginals, which is what the drift of the SDE has
/// beyond the flow's,
///
///     mean (v(x_t, t) - dx_t)^2 + mean (lambda_t s(x_t, t) + epsilon)^2,
///     lambda_t = 2 sigma_t / sigma^2
///
/// (Tong et al. 2024b, "Simulation-free Schrödinger bridges via score and flow matching", lambda by
/// its eq. 23). The second term is the squared error of the score times sigma_t^2, so it stays of
/// one size as the noise vanishes towards both ends. Each mean is over all elements, as in `Mse`.
///
/// The model's output is [B, 2 C, …] for x [B, C, …]: v, and s behind it. `FlowAndScore` makes it
/// one for the Sampler. Any path whose samples are a NoisyPathSample will do. Throws OptionError
/// unless sigma is finite and above 0, ShapeError for an output of another shape.
class FlowAndScoreLoss {
 public:
  /// Of the `sigma` of the BridgePath.
  explicit FlowAndScoreLoss(double sigma) : sigma_(sigma) { detail::check_bridge_sigma(sigma); }

  /// The scalar loss of a training example.
  template <class Model, std::derived_from<NoisyPathSample> Sample, class C>
  requires VelocityModel<Model, C> at::Tensor operator()(
      Model& model, const NoisedSample<Sample, C>& noised) const {
    const VelocityAndScore both =
        detail::call_flow_and_score(model, noised.x_t, noised.t, noised.condition);
    const at::Tensor flow = Mse{}(both.velocity, noised.target);
    const at::Tensor s = both.score.to(state_dtype(both.score));
    const at::Tensor weighted = expand_time(lambda(noised.sample.sigma_t), s) * s;
    return flow + Mse{}(weighted, -noised.sample.epsilon);
  }

  /// lambda_t [B] of the noise's standard deviations `sigma_t` [B].
  at::Tensor lambda(const at::Tensor& sigma_t) const { return sigma_t * (2 / (sigma_ * sigma_)); }

 private:
  double sigma_;
};

}}  // namespace flowmatch
