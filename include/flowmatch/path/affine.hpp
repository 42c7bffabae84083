#pragma once

#include <ATen/Functions.h>

#include <concepts>
#include <utility>

#include "flowmatch/core/expand.hpp"
#include "flowmatch/path/path.hpp"
#include "flowmatch/path/schedulers.hpp"

namespace flowmatch { inline namespace v0 {

/// The affine path x_t = sigma_t x_0 + alpha_t x_1 with dx_t = d_sigma_t x_0 + d_alpha_t x_1
/// (Lipman et al. 2024, eq. 4.26).
template <Scheduler S>
class AffinePath {
 public:
  using scheduler_type = S;

  AffinePath() requires std::default_initializable<S>
  = default;
  explicit AffinePath(S scheduler) : scheduler_(std::move(scheduler)) {}

  /// x_0, x_1 [B, …] of one shape, t [B] in [0, 1]. Throws ShapeError when they do not fit.
  PathSample sample(const at::Tensor& x_0, const at::Tensor& x_1, const at::Tensor& t) const {
    check_same_shape(x_0, "x_0", x_1, "x_1");
    const at::Tensor time = expand_time(t, x_1);
    if constexpr (std::same_as<S, CondOTScheduler>) {
      // The same formula with two operations instead of six: (1-t) x_0 + t x_1, whose derivative is
      // x_1 - x_0.
      return {x_0, x_1, t, at::lerp(x_0, x_1, time.to(x_0.scalar_type())), x_1 - x_0};
    } else {
      const Coefficients c = coefficients(time, x_1.scalar_type());
      return {x_0, x_1, t, c.sigma_t * x_0 + c.alpha_t * x_1,
              c.d_sigma_t * x_0 + c.d_alpha_t * x_1};
    }
  }

  const S& scheduler() const noexcept { return scheduler_; }

 private:
  // Computed in the time's precision, then cast, so that half-precision data keeps exact times.
  Coefficients coefficients(const at::Tensor& time, at::ScalarType dtype) const {
    Coefficients c = scheduler_(time);
    if (time.scalar_type() == dtype) return c;
    return {c.alpha_t.to(dtype), c.sigma_t.to(dtype), c.d_alpha_t.to(dtype), c.d_sigma_t.to(dtype)};
  }

  S scheduler_{};
};

/// x_t = (1-t) x_0 + t x_1, dx_t = x_1 - x_0: the straight path of flow matching and of the blog
/// post.
using LinearPath = AffinePath<CondOTScheduler>;
using PolynomialPath = AffinePath<PolynomialScheduler>;
using VPPath = AffinePath<VPScheduler>;
using LinearVPPath = AffinePath<LinearVPScheduler>;
using CosinePath = AffinePath<CosineScheduler>;

}}  // namespace flowmatch
