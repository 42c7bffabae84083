#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "flowmatch/ode/integrate.hpp"
#include "flowmatch/ode/integrate_times.hpp"
#include "flowmatch/ode/method.hpp"

/// The problems of torchdiffeq's own tests: t from 1 to 8, ten points, forward and in reverse, in
/// float32 and float64, and the largest relative error that those tests allow.
namespace conformance {

namespace ode = flowmatch::ode;

inline const std::array<const char*, 4> problems = {"constant", "linear", "sine", "exp"};

inline double allowed(std::string_view method, std::string_view problem) {
  if (method == "adaptive_heun" || method == "bosh3") return 4e-3;
  if (problem == "linear") return 2e-3;
  if (problem == "exp") return 5e-2;
  return 3e-4;
}

/// A = 2 U - (U + U^T) = U - U^T is antisymmetric; U here is 0.1 times a fixed pattern.
inline double coupling(std::size_t i, std::size_t j) {
  const auto u = [](std::size_t a, std::size_t b) {
    return 0.1 * std::sin(static_cast<double>(7 * a + 3 * b + 1));
  };
  return u(i, j) - u(j, i);
}

template <class T>
void derivative(std::string_view problem, const std::vector<T>& y, double t, std::vector<T>& d) {
  const auto time = static_cast<T>(t);
  if (problem == "constant") {
    d[0] = T(0.2) + std::pow(y[0] - (T(0.2) * time + 3), T(5));
  } else if (problem == "sine") {
    d[0] = 2 * y[0] / time + std::pow(time, T(4)) * std::sin(2 * time) - time * time +
           4 * std::pow(time, T(3));
  } else if (problem == "exp") {
    d[0] = T(-0.1) * std::exp(T(-0.1) * time);
  } else {
    for (std::size_t i = 0; i < y.size(); ++i) {
      d[i] = 0;
      for (std::size_t j = 0; j < y.size(); ++j) d[i] += static_cast<T>(coupling(i, j)) * y[j];
    }
  }
}

inline std::vector<double> solution(std::string_view problem, double t) {
  if (problem == "constant") return {0.2 * t + 3};
  if (problem == "exp") return {std::exp(-0.1 * t)};
  if (problem == "sine") {
    const double t2 = t * t;
    return {-0.5 * t2 * t2 * std::cos(2 * t) + 0.5 * t2 * t * std::sin(2 * t) +
            0.25 * t2 * std::cos(2 * t) - t2 * t + 2 * t2 * t2 + (std::acos(-1.0) - 0.25) * t2};
  }
  // exp(A (t - 1)) y(1), by its series.
  std::vector<double> term(10), sum(10), next(10);
  for (std::size_t i = 0; i < 10; ++i) sum[i] = term[i] = 2 + std::cos(static_cast<double>(i));
  for (int n = 1; n < 120; ++n) {
    derivative<double>("linear", term, 0, next);
    for (std::size_t i = 0; i < 10; ++i) sum[i] += term[i] = next[i] * (t - 1) / n;
  }
  return sum;
}

/// The largest relative error at the ten points; NaN where a fixed-step method is asked for more
/// than torchdiffeq asks of it (constant only).
template <class T, class Method>
double largest_error(Method method, std::string_view problem, bool reverse) {
  std::vector<double> times;
  for (int i = 0; i < 10; ++i) times.push_back(1 + 7.0 * i / 9);
  if (reverse) std::reverse(times.begin(), times.end());
  const std::vector<double> start = solution(problem, times.front());
  std::vector<T> y(start.begin(), start.end());
  double worst = 0;
  const auto compare = [&](double t, const std::vector<T>& now) {
    const std::vector<double> exact = solution(problem, t);
    for (std::size_t i = 0; i < now.size(); ++i) {
      worst = std::max(worst, std::abs((static_cast<double>(now[i]) - exact[i]) / exact[i]));
    }
  };
  const auto f = [&](const std::vector<T>& x, double t, std::vector<T>& d) {
    derivative<T>(problem, x, t, d);
  };
  if constexpr (ode::ErrorStepper<Method, std::vector<T>>) {
    const bool single = sizeof(T) == 4;
    ode::AdaptiveOptions options{.rtol = 1e-7, .atol = 1e-9, .max_steps = 10000000};
    if (method.order == 8 && !single) options.rtol = 1e-12, options.atol = 1e-14;
    if (method.order == 8 && single) options.atol = 1e-7;
    ode::integrate_times(method, f, y, times, options, compare);
  } else {
    ode::integrate(method, f, y, ode::TimeGrid::nodes(times), compare);
  }
  return worst;
}

}  // namespace conformance
