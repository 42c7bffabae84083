#pragma once

#include <cmath>

#include "flowmatch/core/expand.hpp"
#include "tests/support/test.hpp"

/// The Schrödinger bridge of diffusion sigma from N(m_0, s_0^2) to N(m_1, s_1^2) in each dimension.
namespace gaussian_bridge {

constexpr double sigma = 0.6, m_0 = -0.5, s_0 = 0.8, m_1 = 0.7, s_1 = 0.4;

/// The covariance of x_0 and x_1 by entropic transport of regularisation 2 sigma^2 (Janati et al.
/// 2020, "Entropic optimal transport between unbalanced Gaussian measures", theorem 1).
inline double covariance() {
  return (std::sqrt(4 * s_0 * s_0 * s_1 * s_1 + std::pow(sigma, 4)) - sigma * sigma) / 2;
}

inline double mean(double t) { return (1 - t) * m_0 + t * m_1; }

template <class T>
T variance(const T& t) {
  return (1 - t) * (1 - t) * (s_0 * s_0) + t * t * (s_1 * s_1) +
         t * (1 - t) * (2 * covariance() + sigma * sigma);
}

/// The velocity, and sigma^2 / 2 times the score, side by side [B, 2 C, …].
inline at::Tensor flow_and_score(const at::Tensor& x, const at::Tensor& time) {
  const at::Tensor t = fm::expand_time(time, x);
  const at::Tensor from_mean = x - ((1 - t) * m_0 + t * m_1), spread = variance(t);
  const at::Tensor d_spread = -2 * (1 - t) * (s_0 * s_0) + 2 * t * (s_1 * s_1) +
                              (1 - 2 * t) * (2 * covariance() + sigma * sigma);
  return at::cat(
      {m_1 - m_0 + d_spread / (2 * spread) * from_mean, -(sigma * sigma / 2) / spread * from_mean},
      1);
}

}  // namespace gaussian_bridge
