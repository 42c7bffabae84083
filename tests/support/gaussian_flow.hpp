#pragma once

#include <cmath>
#include <functional>

#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/random.hpp"
#include "tests/support/test.hpp"

/// The flow that takes N(0, 1) to N(mu, s^2) in each dimension along the linear path; x_0 ends in
/// mu + s x_0.
namespace gaussian_flow {

constexpr double mu = 0.7;
constexpr double s = 0.4;

inline at::Tensor velocity(const at::Tensor& x, const at::Tensor& time) {
  const at::Tensor t = fm::expand_time(time, x);
  return mu + (s * s * t - (1 - t)) / ((1 - t).square() + s * s * t.square()) * (x - t * mu);
}
/// The average velocity from t to r, and that at t where both are one.
inline at::Tensor average(const at::Tensor& x, const at::Tensor& from, const at::Tensor& to) {
  const at::Tensor t = fm::expand_time(from, x), r = fm::expand_time(to, x);
  const auto spread = [](const at::Tensor& time) {
    return ((1 - time).square() + s * s * time.square()).sqrt();
  };
  const at::Tensor x_r = r * mu + spread(r) / spread(t) * (x - t * mu);
  const at::Tensor span = r - t;
  const at::Tensor safe = at::where(span == 0, 1.0, span);
  return at::where(span == 0, velocity(x, from), (x_r - x) / safe);
}
/// Of a type that other tests' models have, too: the solvers are compiled once for all of them.
const std::function<at::Tensor(const at::Tensor&, const at::Tensor&)> flow = velocity;

/// The same starts x_0 [n, 1] at each call.
inline at::Tensor noise(std::int64_t n = 20000) {
  fm::Rng rng(1, test_device());
  return rng.normal({n, 1}, at::kDouble);
}

/// log N(x; mu, s^2), summed over all but the first dimension.
inline at::Tensor log_prob(const at::Tensor& x) {
  const at::Tensor z = (x.reshape({x.size(0), -1}) - mu) / s;
  return -0.5 * (z.square() + std::log(2 * std::acos(-1.0)) + 2 * std::log(s)).sum(1);
}

}  // namespace gaussian_flow
