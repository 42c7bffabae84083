#pragma once

#include <array>
#include <cmath>
#include <vector>

/// Problems with known solutions, and the measured order of a method on them.
namespace problems {

using Pair = std::array<double, 2>;

struct Problem {
  const char* name;
  Pair (*f)(const Pair&, double);
  Pair (*solution)(double);
  double t0, t1;
};

inline const std::vector<Problem>& all() {
  static const std::vector<Problem> list = {
      {"oscillator",
       [](const Pair& x, double) {
         return Pair{x[1], -x[0]};
       },
       [](double t) {
         return Pair{std::sin(t), std::cos(t)};
       },
       0.2, 1.7},
      {"logistic and decay",
       [](const Pair& x, double) {
         return Pair{x[0] * (1 - x[0]), -2 * x[1]};
       },
       [](double t) {
         return Pair{1 / (1 + 3 * std::exp(-t)), std::exp(-2 * t)};
       },
       0, 1.5},
      {"driven by time",
       [](const Pair& x, double t) {
         return Pair{x[0] * std::cos(t), -x[1] * t + t};
       },
       [](double t) {
         return Pair{std::exp(std::sin(t)), 1 + 2 * std::exp(-t * t / 2)};
       },
       -0.5, 1}};
  return list;
}

/// Problems that are hard enough for the error of a method of high order to be seen above that of
/// long double numbers. Their solutions come from 3,000 steps of dopri8.
using Long = std::array<long double, 3>;

struct HardProblem {
  const char* name;
  Long (*f)(const Long&, double);
  Long start;
  double t1;
};

inline Long lotka_volterra(const Long& x, double) {
  return {x[0] * (1.5L - x[1]), x[1] * (x[0] - 3), 0};
}
inline Long duffing(const Long& x, double t) {
  return {x[1], x[0] - x[0] * x[0] * x[0] - 0.2L * x[1] + std::cos(static_cast<long double>(t)), 0};
}
/// Euler's equations of a rigid body.
inline Long rigid_body(const Long& x, double) {
  return {x[1] * x[2], -x[0] * x[2], -0.51L * x[0] * x[1]};
}

inline double error(const Pair& a, const Pair& b) { return std::hypot(a[0] - b[0], a[1] - b[1]); }

}  // namespace problems
