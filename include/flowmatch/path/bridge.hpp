#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/path/noisy.hpp"
#include "flowmatch/path/schedulers.hpp"

namespace flowmatch { inline namespace v0 {

/// The Brownian bridge of diffusion sigma from x_0 to x_1: x_t = (1-t) x_0 + t x_1 + sigma_t
/// epsilon with sigma_t = sigma sqrt(t (1-t)), whose marginals are carried by the velocity
///
///     dx_t = x_1 - x_0 + (1 - 2t) / (2 t (1-t)) (x_t - (1-t) x_0 - t x_1).
///
/// With pairs by entropic optimal transport of regularisation 2 sigma^2 it is the Schrödinger
/// bridge from the source to the data (Tong et al. 2024, "Improving and generalizing flow-based
/// generative models", section 3.2.4; 2024b, "Simulation-free Schrödinger bridges", eq. 7): see
/// `SinkhornCoupling`. The SDE dx = (dx_t + sigma^2/2 score) dt + sigma dW has the same marginals:
/// see `FlowAndScoreLoss`.
///
/// The velocity grows without bound towards both ends; sqrt(t (1-t)) is kept at `denominator_floor`
/// in it. Throws OptionError unless sigma is finite and above 0: without noise it is LinearPath.
class BridgePath {
 public:
  /// Of diffusion sigma.
  explicit BridgePath(double sigma) : sigma_(sigma) {
    if (!(sigma > 0) || !std::isfinite(sigma)) {
      throw OptionError("a bridge of sigma " + number_text(sigma) +
                        "; choose a finite sigma above 0, or LinearPath for none");
    }
  }

  /// @{ x_0, x_1 [B, …] of one shape, t [B] in [0, 1]; the noise is drawn, or given [B, …]. Throws
  /// ShapeError when they do not fit, or hold whole numbers.
  NoisyPathSample sample(const at::Tensor& x_0, const at::Tensor& x_1, const at::Tensor& t,
                         Rng& rng) const {
    return sample(x_0, x_1, t, detail::noise_like(x_1, rng));
  }
  NoisyPathSample sample(const at::Tensor& x_0, const at::Tensor& x_1, const at::Tensor& t,
                         const at::Tensor& epsilon) const {
    NoisyPathSample result{LinearPath{}.sample(x_0, x_1, t), epsilon, {}};
    const at::Tensor root = (t * (1 - t)).clamp_min(0).sqrt();
    result.sigma_t = sigma_ * root;
    const double floor = denominator_floor(t.scalar_type());
    const at::Tensor d_sigma_t = sigma_ * (1 - 2 * t) / (2 * root.clamp_min(floor));
    result.x_t = detail::with_noise(result.x_t, result.sigma_t, epsilon, x_1);
    result.dx_t = detail::with_noise(result.dx_t, d_sigma_t, epsilon, x_1);
    return result;
  }
  /// @}

  /// The diffusion.
  double sigma() const noexcept { return sigma_; }

 private:
  double sigma_;
};

}}  // namespace flowmatch
