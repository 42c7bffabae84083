#include "flowmatch/ode/runge_kutta.hpp"

#include <cmath>

#include "flowmatch/ode/integrate.hpp"
#include "tests/ode/convergence.hpp"
#include "tests/ode/problems.hpp"
#include "tests/support/test_std.hpp"

namespace ode = flowmatch::ode;
using problems::Pair;

using convergence::check_order;

TEST_CASE("runge_kutta: euler converges with order 1") { check_order<ode::Euler>(400); }
TEST_CASE("runge_kutta: midpoint converges with order 2") { check_order<ode::Midpoint>(160); }
TEST_CASE("runge_kutta: heun2 converges with order 2") { check_order<ode::Heun2>(160); }
TEST_CASE("runge_kutta: heun3 converges with order 3") { check_order<ode::Heun3>(80); }
TEST_CASE("runge_kutta: rk4 converges with order 4") { check_order<ode::RK4>(40); }
TEST_CASE("runge_kutta: rk4_classic converges with order 4") { check_order<ode::RK4Classic>(40); }
TEST_CASE("runge_kutta: adaptive_heun converges with order 2") {
  check_order<ode::AdaptiveHeun>(160);
}
TEST_CASE("runge_kutta: fehlberg2 converges with order 2") { check_order<ode::Fehlberg2>(160); }
TEST_CASE("runge_kutta: bosh3 converges with order 3") { check_order<ode::Bosh3>(80); }
TEST_CASE("runge_kutta: tsit5 converges with order 5") {
  check_order<ode::Tsit5>({"Lotka-Volterra", problems::lotka_volterra, {3, 2, 0}, 4}, 320);
  check_order<ode::Tsit5>({"Duffing", problems::duffing, {0, 1, 0}, 6}, 320);
  check_order<ode::Tsit5>({"Duffing", problems::duffing, {1.5L, 0, 0}, 6}, 320);
}
TEST_CASE("runge_kutta: dopri5 converges with order 5") { check_order<ode::Dopri5>(44); }
TEST_CASE("runge_kutta: dopri8 converges with order 8") {
  check_order<ode::Dopri8>({"Lotka-Volterra", problems::lotka_volterra, {3, 2, 0}, 4}, 32);
  check_order<ode::Dopri8>({"Lotka-Volterra", problems::lotka_volterra, {2, 1, 0}, 6}, 48);
  check_order<ode::Dopri8>({"rigid body", problems::rigid_body, {0, 1, 1}, 5}, 20);
}

namespace {

/// The largest error of the interpolant within one step of size dt from the exact solution.
template <class Method>
double interpolation_error(const problems::Problem& p, double dt) {
  ode::Workspace<Pair> w;
  const double t = 0.3;
  const Pair x = p.solution(t);
  Method{}.try_step(p.f, w, x, t, dt);
  double worst = 0;
  for (const double theta : {0.2, 0.4, 0.6, 0.8}) {
    Method{}.interpolate(p.f, w, x, t, dt, theta);
    worst = std::max(worst, problems::error(w.stage, p.solution(t + theta * dt)));
  }
  Method{}.interpolate(p.f, w, x, t, dt, 0);
  CHECK(problems::error(w.stage, x) < 1e-15);
  Method{}.interpolate(p.f, w, x, t, dt, 1);
  CHECK(problems::error(w.stage, w.next) < 1e-14);
  return worst;
}

/// An interpolant of order q has an error of dt^(q+1) within a step.
template <class Method>
void check_interpolant(int order, double dt = 0.1) {
  for (const problems::Problem& p : problems::all()) {
    INFO(Method::name << " on " << p.name);
    const double measured =
        std::log2(interpolation_error<Method>(p, dt) / interpolation_error<Method>(p, dt / 2));
    CHECK(measured == Approx(order + 1).margin(0.35));
  }
}

}  // namespace

TEST_CASE("runge_kutta: dense output of dopri5 and tsit5 is of order 4 and that of dopri8 of 5") {
  check_interpolant<ode::Dopri5>(4);
  check_interpolant<ode::Tsit5>(4);
  check_interpolant<ode::Dopri8>(5, 0.2);
}

TEST_CASE("runge_kutta: dense output by Hermite's cubic is of the method's order up to 3") {
  check_interpolant<ode::AdaptiveHeun>(2);
  check_interpolant<ode::Fehlberg2>(2);
  check_interpolant<ode::Bosh3>(3);
}

TEST_CASE("runge_kutta: dense output costs the evaluation that the next step begins with") {
  const auto f = [](double x, double) { return -x; };
  double x = 1;
  ode::Workspace<double> w;
  const ode::AdaptiveHeun heun;
  heun.try_step(f, w, x, 0, 0.1);
  CHECK(w.evaluations == 2);
  heun.interpolate(f, w, x, 0, 0.1, 0.5);
  heun.interpolate(f, w, x, 0, 0.1, 0.7);
  CHECK(w.evaluations == 3);
  heun.accept(w, x);
  CHECK(w.k[0] == -x);
  heun.try_step(f, w, x, 0.1, 0.1);
  CHECK(w.evaluations == 4);
}

TEST_CASE("runge_kutta: a step of rk4 is the 3/8 rule by hand") {
  const auto f = [](double x, double t) { return x * x + t; };
  const double x0 = 0.3, t = 0.1, h = 0.2;
  const double k1 = f(x0, t);
  const double k2 = f(x0 + h * k1 / 3, t + h / 3);
  const double k3 = f(x0 + h * (k2 - k1 / 3), t + 2 * h / 3);
  const double k4 = f(x0 + h * (k1 - k2 + k3), t + h);
  double x = x0;
  ode::Workspace<double> w;
  ode::RK4{}.step(f, w, x, t, h);
  CHECK(x == Approx(x0 + h * (k1 + 3 * k2 + 3 * k3 + k4) / 8).epsilon(1e-15));
  CHECK(w.evaluations == 4);
}

TEST_CASE("runge_kutta: dopri5 reuses its last stage as the next first one") {
  const auto f = [](double x, double) { return -x; };
  double x = 1;
  ode::Workspace<double> w;
  ode::Dopri5{}.step(f, w, x, 0, 0.1);
  CHECK(w.evaluations == 7);
  ode::Dopri5{}.step(f, w, x, 0.1, 0.1);
  CHECK(w.evaluations == 13);
  CHECK(w.k[0] == Approx(-x).epsilon(1e-15));
}

TEST_CASE("runge_kutta: a try leaves x alone and a second try repeats the first") {
  const auto f = [](double x, double t) { return std::sin(x) + t; };
  double x = 0.7;
  ode::Workspace<double> w;
  ode::Dopri5{}.try_step(f, w, x, 0, 0.5);
  const double next = w.next;
  const double error = w.error;
  CHECK(x == 0.7);
  ode::Dopri5{}.try_step(f, w, x, 0, 0.1);
  ode::Dopri5{}.try_step(f, w, x, 0, 0.5);
  CHECK(w.next == next);
  CHECK(w.error == error);
  CHECK(w.evaluations == 7 + 6 + 6);
}

TEST_CASE("runge_kutta: dopri5 estimates the error of its embedded method with order 5 a step") {
  for (const problems::Problem& p : problems::all()) {
    double estimates[2];
    for (int i = 0; i < 2; ++i) {
      ode::Workspace<Pair> w;
      ode::Dopri5{}.try_step(p.f, w, p.solution(0.3), 0.3, i == 0 ? 0.05 : 0.025);
      estimates[i] = std::hypot(w.error[0], w.error[1]);
    }
    INFO(p.name);
    CHECK(std::log2(estimates[0] / estimates[1]) == Approx(5).margin(0.3));
  }
}

TEST_CASE("runge_kutta: steps after a rejection are those of a fresh start") {
  const auto f = [](const Pair& y, double t) { return Pair{std::abs(t - 0.5) * 50 * y[1], -y[0]}; };
  Pair x = {1, 0};
  std::vector<double> times = {0};
  std::vector<Pair> points = {x};
  const auto s =
      ode::integrate(ode::Dopri5{}, f, x, 0, 2, {.rtol = 1e-7, .atol = 1e-9, .first_step = 1},
                     [&](double t, const Pair& now) {
                       times.push_back(t);
                       points.push_back(now);
                     });
  REQUIRE(s.rejected >= 3);
  REQUIRE(times.size() == static_cast<std::size_t>(s.accepted) + 1);
  for (std::size_t i = 0; i + 1 < times.size(); ++i) {
    Pair y = points[i];
    ode::Workspace<Pair> w;
    ode::Dopri5{}.step(f, w, y, times[i], times[i + 1] - times[i]);
    CHECK(problems::error(y, points[i + 1]) < 1e-13);
  }
}
