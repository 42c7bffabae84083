#include "flowmatch/ode/adams.hpp"

#include <cmath>

#include "flowmatch/ode/integrate.hpp"
#include "tests/ode/convergence.hpp"
#include "tests/support/test_std.hpp"

namespace ode = flowmatch::ode;
using convergence::check_order;

TEST_CASE("adams: the explicit methods converge with orders 1 to 4") {
  check_order<ode::ExplicitAdams<1>>(400);
  check_order<ode::ExplicitAdams<2>>(320);
  check_order<ode::ExplicitAdams<3>>(320);
  check_order<ode::ExplicitAdams<4>>(200);
}

TEST_CASE("adams: the implicit methods converge with orders 2 to 4") {
  check_order<ode::ImplicitAdams<2>>(320);
  check_order<ode::ImplicitAdams<3>>(320);
  check_order<ode::ImplicitAdams<4>>(200);
}

TEST_CASE("adams: after the start one evaluation a step or two") {
  double x = 1;
  const auto f = [](double y, double) { return -y; };
  const auto grid = ode::TimeGrid::uniform(20);
  // Three steps of rk4, then one evaluation for each of 17.
  CHECK(ode::integrate(ode::ExplicitAdams<4>{}, f, x, grid).evaluations == 3 * 4 + 17);
  CHECK(x == Approx(std::exp(-1)).epsilon(1e-5));
  x = 1;
  CHECK(ode::integrate(ode::ImplicitAdams<4>{}, f, x, grid).evaluations == 2 * 4 + 2 * 18);
  CHECK(x == Approx(std::exp(-1)).epsilon(1e-6));
}

TEST_CASE("adams: a change of step size starts anew") {
  // Twenty steps, then forty of half the size: the result is as exact as with equal steps.
  std::vector<double> nodes;
  for (int i = 0; i <= 20; ++i) nodes.push_back(0.05 * i);
  for (int i = 1; i <= 40; ++i) nodes.push_back(1 + 0.025 * i);
  const auto f = [](double y, double t) { return y * std::cos(t); };
  double x = 1;
  ode::integrate(ode::ExplicitAdams<4>{}, f, x, ode::TimeGrid::nodes(nodes));
  CHECK(x == Approx(std::exp(std::sin(2.0))).epsilon(2e-5));
}

TEST_CASE("adams: a step of the explicit method of order 2 by hand") {
  const auto f = [](double x, double t) { return x * x + t; };
  const double h = 0.1;
  double x = 0.3;
  ode::Workspace<double> w;
  ode::ExplicitAdams<2> method;
  const double f0 = f(x, 0);
  method.step(f, w, x, 0, h);
  const double f1 = f(x, h);
  const double expected = x + h * (1.5 * f1 - 0.5 * f0);
  method.step(f, w, x, h, h);
  CHECK(x == Approx(expected).epsilon(1e-15));
}
