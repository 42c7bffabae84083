#pragma once

#include <ATen/core/Tensor.h>

#include <concepts>

namespace flowmatch { inline namespace v0 {

/// A scheduler's values at times t [B]: how much data (alpha) and noise (sigma) is in x_t, and
/// their time derivatives.
struct Coefficients {
  at::Tensor alpha_t;    ///< of the data
  at::Tensor sigma_t;    ///< of the noise
  at::Tensor d_alpha_t;  ///< alpha's time derivative
  at::Tensor d_sigma_t;  ///< sigma's time derivative
};

/// A schedule of an affine path x_t = sigma_t x_0 + alpha_t x_1.
/// 1. `s(t)` gives Coefficients, each of t's shape and dtype, finite for every t in [0, 1].
/// 2. alpha grows from (about) 0 at t = 0 to 1 at t = 1, sigma falls from 1 to 0.
/// 3. Where d_sigma grows without bound towards t = 1, `S::singular_at_end` is true. It may be left
/// out
///    where it is not; see model/modules_in.hpp for what follows.
template <class S>
concept Scheduler = std::copyable<S> && requires(const S& s, const at::Tensor& t) {
  { s(t) } -> std::same_as<Coefficients>;
};

/// A scheduler that finds the time of a signal-to-noise ratio.
/// 1. It is a Scheduler.
/// 2. `s.snr_inverse(snr)` gives the t with alpha_t / sigma_t = snr, for snr in [0, inf).
template <class S>
concept InvertibleScheduler = Scheduler<S> && requires(const S& s, const at::Tensor& snr) {
  { s.snr_inverse(snr) } -> std::same_as<at::Tensor>;
};

}}  // namespace flowmatch
