#pragma once

#include <concepts>

#include "flowmatch/core/random.hpp"
#include "flowmatch/core/types.hpp"

namespace flowmatch { inline namespace v0 {

/// A path from noise to data.
/// 1. `p.sample(x_0, x_1, t)` with x_0, x_1 [B, …] and t [B] gives a PathSample, or a type derived
/// from it that holds more.
/// 2. x_t is x_0 at t = 0 and x_1 at t = 1 (or close to it), and dx_t is its time derivative.
template <class P>
concept ProbPath = std::copyable<P> &&
    requires(const P& p, const at::Tensor& x, const at::Tensor& t) {
  { p.sample(x, x, t) } -> std::derived_from<PathSample>;
};

/// A path that draws randomness of its own.
/// 1. `p.sample(x_0, x_1, t, rng)` gives a PathSample, or a type derived from it that holds more.
template <class P>
concept StochasticPath = std::copyable<P> &&
    requires(const P& p, const at::Tensor& x, const at::Tensor& t, Rng& rng) {
  { p.sample(x, x, t, rng) } -> std::derived_from<PathSample>;
};

}}  // namespace flowmatch
