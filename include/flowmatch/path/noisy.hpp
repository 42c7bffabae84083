#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <utility>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/path/affine.hpp"
#include "flowmatch/path/path.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

/// mean + sigma_t epsilon in the dtype of `like`; sigma_t [B].
inline at::Tensor with_noise(const at::Tensor& mean, const at::Tensor& sigma_t,
                             const at::Tensor& epsilon, const at::Tensor& like) {
  check_same_shape(epsilon, "epsilon", like, "x_1");
  const at::ScalarType exact = state_dtype(like);
  const at::Tensor noise = expand_time(sigma_t, like) * epsilon.to(exact);
  return (mean.to(exact) + noise).to(like.scalar_type());
}

/// Noise for x, on its device.
inline at::Tensor noise_like(const at::Tensor& x, Rng& rng) {
  check_floating(x);
  return rng.normal(x.sizes(), x.options()).to(x.device());
}

}  // namespace detail

/// A path with Gaussian noise of one standard deviation sigma added at all times: x_t = m_t + sigma
/// epsilon with the mean m_t and the velocity dx_t = dm_t/dt of another path. The marginals at the
/// ends are the source's and the data's, blurred by sigma.
///
/// `NoisyPath(LinearPath{}, 0.1)` is that of I-CFM and, with a coupling by optimal transport,
/// OT-CFM (Tong et al. 2024, sections 3.2.2 and 3.2.3); `NoisyPath(CosinePath{}, 0.1)` is the
/// variance-preserving one of stochastic interpolants (Albergo & Vanden-Eijnden 2023).
///
/// Throws OptionError unless sigma is finite and at least 0.
template <ProbPath P = LinearPath>
class NoisyPath {
 public:
  /// Whether its x_0 has to be standard normal noise.
  static constexpr bool of_standard_normal = requires { requires P::of_standard_normal; };

  /// Around `mean`.
  NoisyPath(P mean, double sigma) : mean_(std::move(mean)), sigma_(sigma) {
    if (!(sigma >= 0) || !std::isfinite(sigma)) {
      throw OptionError("a path with noise of sigma " + number_text(sigma) +
                        "; choose a finite sigma of at least 0");
    }
  }
  /// Around the straight path.
  explicit NoisyPath(double sigma) requires std::same_as<P, LinearPath>
      : NoisyPath(LinearPath{}, sigma) {}

  /// @{ x_0, x_1 [B, …] of one shape, t [B] in [0, 1]; the noise is drawn, or given [B, …]. Throws
  /// ShapeError when they do not fit, or hold whole numbers.
  NoisyPathSample sample(const at::Tensor& x_0, const at::Tensor& x_1, const at::Tensor& t,
                         Rng& rng) const {
    return sample(x_0, x_1, t, detail::noise_like(x_1, rng));
  }
  NoisyPathSample sample(const at::Tensor& x_0, const at::Tensor& x_1, const at::Tensor& t,
                         const at::Tensor& epsilon) const {
    NoisyPathSample result{mean_.sample(x_0, x_1, t), epsilon, at::full_like(t, sigma_)};
    result.x_t = detail::with_noise(result.x_t, result.sigma_t, epsilon, x_1);
    return result;
  }
  /// @}

  /// The noise's standard deviation.
  double sigma() const noexcept { return sigma_; }

 private:
  P mean_;
  double sigma_;
};
NoisyPath(double)->NoisyPath<LinearPath>;

}}  // namespace flowmatch
