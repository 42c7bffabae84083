#pragma once

#include <ATen/Functions.h>

#include "flowmatch/core/expand.hpp"
#include "flowmatch/path/schedulers.hpp"

/// Conversions between what a network can predict on an affine path: the velocity v = dx_t, the
/// data x_1, the noise epsilon = x_0, and the score of p_t (Lipman et al. 2024, table 1). With D =
/// d_alpha sigma - d_sigma alpha:
///
///   v from x_1:        (d_sigma/sigma) x_t + (D/sigma) x_1        singular at t = 1
///   v from epsilon:    (d_alpha/alpha) x_t - (D/alpha) epsilon    singular at t = 0
///   x_1 from v:        (sigma v - d_sigma x_t) / D
///   epsilon from v:    (d_alpha x_t - alpha v) / D
///   x_1 from epsilon:  (x_t - sigma epsilon) / alpha              singular at t = 0
///   epsilon from x_1:  (x_t - alpha x_1) / sigma                  singular at t = 1
///   score:             -epsilon / sigma                           singular at t = 1
///
/// Where a formula divides by zero, the denominator is kept at `denominator_floor`: results stay
/// finite at t = 0 and t = 1, and agree with the formula everywhere else. At those ends they say
/// little, as a small error of the prediction becomes a large one: ask the network beside the end
/// (model/adapters.hpp does). Coefficients broadcast over x_t: use `coefficients_at`.

namespace flowmatch { inline namespace v0 {

/// A scheduler's coefficients at t [B], shaped [B, 1, …], in x_t's dtype, in float32 for half
/// precision of either. Throws ShapeError if t does not fit x_t, or x_t holds whole numbers.
template <Scheduler S>
Coefficients coefficients_at(const S& scheduler, const at::Tensor& t, const at::Tensor& x_t) {
  check_floating(x_t);
  Coefficients c = scheduler(expand_time(t, x_t).to(state_dtype(t)));
  const at::ScalarType dtype = state_dtype(x_t);
  return {c.alpha_t.to(dtype), c.sigma_t.to(dtype), c.d_alpha_t.to(dtype), c.d_sigma_t.to(dtype)};
}

namespace detail {

inline at::Tensor floored(const at::Tensor& denominator) {
  return denominator.clamp_min(denominator_floor(denominator.scalar_type()));
}

/// Where a denominator is so small that it would be floored.
inline at::Tensor vanishes(const at::Tensor& denominator) {
  return denominator < denominator_floor(denominator.scalar_type());
}

// D is positive inside (0, 1): alpha grows while sigma falls.
inline at::Tensor determinant(const Coefficients& c) {
  return c.d_alpha_t * c.sigma_t - c.d_sigma_t * c.alpha_t;
}

/// The first time, to 1/1000, at which a twentieth of the data is in x_t: alpha_t >= 0.05. What is
/// said of x_1 earlier divides by a smaller number, and a network's error grows by its inverse.
template <Scheduler S>
double data_shows_at(S scheduler) {
  const at::Tensor t = at::linspace(0, 1, 1001, at::kDouble);
  const at::Tensor shows = (scheduler(t).alpha_t >= 0.05).to(at::kInt);
  return t[shows.argmax()].template item<double>();
}

}  // namespace detail

/// v of x_1, by coefficients c at x_t; singular at t = 1.
inline at::Tensor velocity_from_x_1(const Coefficients& c, const at::Tensor& x_t,
                                    const at::Tensor& x_1) {
  return (c.d_sigma_t * x_t + detail::determinant(c) * x_1) / detail::floored(c.sigma_t);
}

/// v of epsilon, by coefficients c at x_t; singular at t = 0.
inline at::Tensor velocity_from_epsilon(const Coefficients& c, const at::Tensor& x_t,
                                        const at::Tensor& epsilon) {
  return (c.d_alpha_t * x_t - detail::determinant(c) * epsilon) / detail::floored(c.alpha_t);
}

/// x_1 of the velocity, by coefficients c at x_t.
inline at::Tensor x_1_from_velocity(const Coefficients& c, const at::Tensor& x_t,
                                    const at::Tensor& velocity) {
  return (c.sigma_t * velocity - c.d_sigma_t * x_t) / detail::floored(detail::determinant(c));
}

/// epsilon of the velocity, by coefficients c at x_t.
inline at::Tensor epsilon_from_velocity(const Coefficients& c, const at::Tensor& x_t,
                                        const at::Tensor& velocity) {
  return (c.d_alpha_t * x_t - c.alpha_t * velocity) / detail::floored(detail::determinant(c));
}

/// x_1 of epsilon, by coefficients c at x_t; singular at t = 0.
inline at::Tensor x_1_from_epsilon(const Coefficients& c, const at::Tensor& x_t,
                                   const at::Tensor& epsilon) {
  return (x_t - c.sigma_t * epsilon) / detail::floored(c.alpha_t);
}

/// epsilon of x_1, by coefficients c at x_t; singular at t = 1.
inline at::Tensor epsilon_from_x_1(const Coefficients& c, const at::Tensor& x_t,
                                   const at::Tensor& x_1) {
  return (x_t - c.alpha_t * x_1) / detail::floored(c.sigma_t);
}

/// The score of p_t of epsilon, by coefficients c; singular at t = 1.
inline at::Tensor score_from_epsilon(const Coefficients& c, const at::Tensor& epsilon) {
  return -epsilon / detail::floored(c.sigma_t);
}

/// The score of p_t of the velocity, by coefficients c at x_t; singular at t = 1.
inline at::Tensor score_from_velocity(const Coefficients& c, const at::Tensor& x_t,
                                      const at::Tensor& velocity) {
  return score_from_epsilon(c, epsilon_from_velocity(c, x_t, velocity));
}

}}  // namespace flowmatch
