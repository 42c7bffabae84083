#pragma once

#include <cmath>
#include <cstdint>

#include "flowmatch/ode/integrate.hpp"
#include "flowmatch/ode/runge_kutta.hpp"
#include "tests/ode/problems.hpp"
#include "tests/support/test_std.hpp"

/// The measured order of convergence of a method.
namespace convergence {

namespace ode = flowmatch::ode;
using problems::Pair;

template <class Method>
double measured_order(const problems::Problem& p, bool reverse, std::int64_t steps) {
  const double t0 = reverse ? p.t1 : p.t0;
  const double t1 = reverse ? p.t0 : p.t1;
  double errors[2];
  for (int i = 0; i < 2; ++i) {
    Pair x = p.solution(t0);
    ode::integrate(Method{}, p.f, x, ode::TimeGrid::uniform(steps << i, t0, t1));
    errors[i] = problems::error(x, p.solution(t1));
  }
  return std::log2(errors[0] / errors[1]);
}

template <class Method>
void check_order(std::int64_t steps) {
  for (const problems::Problem& p : problems::all()) {
    for (const bool reverse : {false, true}) {
      INFO(Method::name << " on " << p.name << (reverse ? ", in reverse" : ""));
      CHECK(measured_order<Method>(p, reverse, steps) == Approx(Method::order).margin(0.15));
    }
  }
}

/// The same on a hard problem, from 0 to its t1 and back.
template <class Method>
void check_order(const problems::HardProblem& p, std::int64_t steps) {
  using problems::Long;
  const auto solve = [&](auto method, Long x, std::int64_t n, bool reverse) {
    ode::integrate(method, p.f, x,
                   ode::TimeGrid::uniform(n, reverse ? p.t1 : 0, reverse ? 0 : p.t1));
    return x;
  };
  const Long end = solve(ode::Dopri8{}, p.start, 3000, false);
  for (const bool reverse : {false, true}) {
    const Long& start = reverse ? end : p.start;
    const Long& expected = reverse ? p.start : end;
    long double errors[2];
    for (int i = 0; i < 2; ++i) {
      const Long x = solve(Method{}, start, steps << i, reverse);
      errors[i] = std::hypot(x[0] - expected[0], x[1] - expected[1], x[2] - expected[2]);
    }
    INFO(Method::name << " on " << p.name << (reverse ? ", in reverse" : ""));
    CHECK(static_cast<double>(std::log2(errors[0] / errors[1])) ==
          Approx(Method::order).margin(0.15));
  }
}

}  // namespace convergence
