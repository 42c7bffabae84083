#pragma once

#include <ATen/Functions.h>

#include <concepts>
#include <utility>

#include "flowmatch/core/expand.hpp"
#include "flowmatch/path/conversion.hpp"
#include "flowmatch/path/path.hpp"
#include "flowmatch/path/schedulers.hpp"

namespace flowmatch { inline namespace v0 {

/// The affine path x_t = sigma_t x_0 + alpha_t x_1 with dx_t = d_sigma_t x_0 + d_alpha_t x_1
/// (Lipman et al. 2024, eq. 4.26).
template <Scheduler S>
class AffinePath {
 public:
  /// Gives the path's coefficients.
  using scheduler_type = S;
  /// Whether its x_0 has to be standard normal noise.
  static constexpr bool of_standard_normal = requires { requires S::of_standard_normal; };

  AffinePath() requires std::default_initializable<S>
  = default;
  /// With a scheduler that has parameters.
  explicit AffinePath(S scheduler) : scheduler_(std::move(scheduler)) {}

  /// x_0, x_1 [B, …] of one shape, t [B] in [0, 1]; x_t and dx_t have their dtype. Coefficients and
  /// sums are of float32 at least, whatever that is: of t in bfloat16 only 1/256 would be left near
  /// 1. Throws ShapeError when they do not fit, or hold whole numbers.
  PathSample sample(const at::Tensor& x_0, const at::Tensor& x_1, const at::Tensor& t) const {
    check_same_shape(x_0, "x_0", x_1, "x_1");
    check_floating(x_1);
    const at::ScalarType dtype = x_1.scalar_type();
    const at::ScalarType exact = state_dtype(x_1);
    const at::Tensor noise = x_0.to(exact);
    const at::Tensor data = x_1.to(exact);
    if constexpr (std::same_as<S, CondOTScheduler>) {
      // The same formula with two operations instead of six: (1-t) x_0 + t x_1, whose derivative is
      // x_1 - x_0.
      const at::Tensor time = expand_time(t, x_1).to(exact);
      return {x_0, x_1, t, at::lerp(noise, data, time).to(dtype), (data - noise).to(dtype)};
    } else {
      const Coefficients c = coefficients_at(scheduler_, t, data);
      return {x_0, x_1, t, (c.sigma_t * noise + c.alpha_t * data).to(dtype),
              (c.d_sigma_t * noise + c.d_alpha_t * data).to(dtype)};
    }
  }

  /// As it was given.
  const S& scheduler() const noexcept { return scheduler_; }

 private:
  S scheduler_{};
};

/// x_t = (1-t) x_0 + t x_1, dx_t = x_1 - x_0: the straight path of flow matching and of the blog
/// post.
using LinearPath = AffinePath<CondOTScheduler>;
/// x_t = (1 - (1-sigma) t) x_0 + t x_1 of normal noise x_0, dx_t = x_1 - (1-sigma) x_0.
using TargetPath = AffinePath<TargetScheduler>;
/// alpha_t = t^n, sigma_t = 1 - t^n.
using PolynomialPath = AffinePath<PolynomialScheduler>;
/// The variance-preserving diffusion of Song et al. (2021).
using VPPath = AffinePath<VPScheduler>;
/// alpha_t = t, sigma_t = sqrt(1 - t^2).
using LinearVPPath = AffinePath<LinearVPScheduler>;
/// alpha_t = sin(pi t / 2), sigma_t = cos(pi t / 2).
using CosinePath = AffinePath<CosineScheduler>;

}}  // namespace flowmatch
