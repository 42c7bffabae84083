#pragma once

#include <cmath>
#include <initializer_list>

namespace flowmatch { inline namespace v0 { namespace detail {

/// The regularised incomplete beta function I_x(a, b) for x in [0, 1]: its continued fraction by
/// Lentz's method (DLMF 8.17.22), on the side where that converges fast.
inline double beta_distribution(double x, double a, double b) {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - beta_distribution(1 - x, b, a);
  constexpr double tiny = 1e-300;
  double c = 1, d = 1 / (1 - (a + b) * x / (a + 1)), fraction = d;
  for (int m = 1; m < 500; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    double change = 1;
    for (const double step : {even, odd}) {
      d = 1 / (std::abs(1 + step * d) < tiny ? tiny : 1 + step * d);
      c = std::abs(1 + step / c) < tiny ? tiny : 1 + step / c;
      change = c * d;
      fraction *= change;
    }
    if (std::abs(change - 1) < 1e-15) break;
  }
  const double log_beta = std::lgamma(a) + std::lgamma(b) - std::lgamma(a + b);
  return std::exp(a * std::log(x) + b * std::log1p(-x) - log_beta) * fraction / a;
}

/// The x at which I_x(a, b) = p, by bisection.
inline double beta_quantile(double p, double a, double b) {
  if (p <= 0 || p >= 1) return p <= 0 ? 0 : 1;
  double low = 0, high = 1;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (beta_distribution(middle, a, b) < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

}}}  // namespace flowmatch::detail
