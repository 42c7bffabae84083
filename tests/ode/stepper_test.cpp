#include "flowmatch/ode/stepper.hpp"

#include <array>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "flowmatch/ode/adams.hpp"
#include "flowmatch/ode/integrate.hpp"
#include "flowmatch/ode/runge_kutta.hpp"
#include "tests/ode/problems.hpp"
#include "tests/support/test_std.hpp"

namespace ode = flowmatch::ode;
using problems::Pair;

namespace {

/// Heun's method with Euler's embedded: an error estimate without first same as last.
struct HeunEulerTableau {
  static constexpr std::string_view name = "heun_euler";
  static constexpr int order = 2;
  static constexpr std::array<double, 2> c{0, 1};
  static constexpr std::array<double, 1> a{1};
  static constexpr std::array<double, 2> b{1. / 2, 1. / 2};
  static constexpr std::array<double, 2> error{-1. / 2, 1. / 2};
};

/// The midpoint rule beside Kutta's third order: its last node is 1 and its last weight 0, but its
/// last stage is not the end of the step.
struct MidpointKuttaTableau {
  static constexpr std::string_view name = "midpoint_kutta";
  static constexpr int order = 2;
  static constexpr std::array<double, 3> c{0, 1. / 2, 1};
  static constexpr std::array<double, 3> a{1. / 2, -1, 2};
  static constexpr std::array<double, 3> b{0, 1, 0};
  static constexpr std::array<double, 3> error{-1. / 6, 1. / 3, -1. / 6};
};

using HeunEuler = ode::RungeKutta<HeunEulerTableau>;
using MidpointKutta = ode::RungeKutta<MidpointKuttaTableau>;

/// A stepper that is no Runge-Kutta method: it moves x by dt.
struct Clock {
  static constexpr int order = 1;
  static constexpr int stages = 0;
  static constexpr std::string_view name = "clock";
  template <class F, class X>
  void step(F&, ode::Workspace<X>&, X& x, double, double dt) const {
    x += dt;
  }
};

}  // namespace

TEST_CASE("stepper: concepts tell methods with an error estimate from those without") {
  static_assert(ode::Stepper<ode::Euler> && ode::Stepper<ode::Dopri5, std::vector<double>>);
  static_assert(ode::ErrorStepper<ode::Dopri5> && !ode::ErrorStepper<ode::RK4>);
  static_assert(!ode::Stepper<int>);
  static_assert(!ode::Stepper<ode::Euler, std::string>);
  CHECK(ode::Euler::stages == 1);
  CHECK(ode::RK4::stages == 4);
  CHECK(ode::Dopri5::stages == 6);
}

TEST_CASE("stepper: a method of one's own is driven by integrate") {
  static_assert(ode::Stepper<Clock> && !ode::ErrorStepper<Clock>);
  double x = 0;
  const auto s = ode::integrate(
      Clock{}, [](double, double) { return 0.0; }, x, ode::TimeGrid::uniform(5, 1, 3));
  CHECK(x == Approx(2).epsilon(1e-14));
  CHECK(s.evaluations == 0);
  CHECK(s.accepted == 5);
}

TEST_CASE("stepper: an in-place system finds its derivative sized like the state") {
  std::vector<double> x = {1, 2, 3};
  ode::integrate(
      ode::RK4{},
      [](const std::vector<double>& y, double, std::vector<double>& k) {
        REQUIRE(k.size() == 3);
        for (std::size_t i = 0; i < 3; ++i) k[i] = -y[i];
      },
      x, ode::TimeGrid::uniform(20));
  for (std::size_t i = 0; i < 3; ++i)
    CHECK(x[i] == Approx(static_cast<double>(i + 1) * std::exp(-1)).epsilon(1e-6));
}

TEST_CASE("stepper: a tableau of one's own without first same as last makes fresh fixed steps") {
  static_assert(HeunEuler::has_error && !HeunEuler::first_same_as_last && HeunEuler::stages == 2);
  static_assert(!MidpointKutta::first_same_as_last && MidpointKutta::stages == 3);
  static_assert(ode::Dopri5::first_same_as_last && !ode::RK4::first_same_as_last);
  const problems::Problem& p = problems::all().front();
  Pair plain = p.solution(p.t0);
  Pair embedded = plain;
  ode::integrate(ode::Heun2{}, p.f, plain, ode::TimeGrid::uniform(30, p.t0, p.t1));
  const auto s = ode::integrate(HeunEuler{}, p.f, embedded, ode::TimeGrid::uniform(30, p.t0, p.t1));
  CHECK(embedded == plain);
  CHECK(s.evaluations == 60);
}

TEST_CASE("stepper: tableaus of one's own choose their steps by their error") {
  const auto check = [](auto method) {
    for (const problems::Problem& p : problems::all()) {
      Pair x = p.solution(p.t0);
      const auto s = ode::integrate(method, p.f, x, p.t0, p.t1,
                                    {.rtol = 1e-6, .atol = 1e-6, .max_steps = 5000});
      INFO(method.name << " on " << p.name);
      CHECK(problems::error(x, p.solution(p.t1)) < 3e-4);  // some hundred steps of 1e-6
      CHECK(s.evaluations <= 2 + method.stages * (s.accepted + s.rejected));
    }
  };
  check(HeunEuler{});
  check(MidpointKutta{});
}

TEST_CASE("stepper: a workspace that is used again does not remember the solve before") {
  const auto decay = [](double x, double) { return -x; };
  const auto run = [&](const auto& stepper, ode::Workspace<double>& w, double x) {
    for (int i = 0; i < 10; ++i) stepper.step(decay, w, x, i * 0.1, 0.1);
    return x;
  };
  const auto check = [&](const auto& stepper) {
    ode::Workspace<double> used, fresh;
    run(stepper, used, 1);
    CHECK(run(stepper, used, 5) == run(stepper, fresh, 5));
    // Another state at the time where the last step ended is told by `forget`.
    double x = 1, y = 3;
    ode::Workspace<double> one, two;
    stepper.step(decay, one, x, 0, 0.1);
    one.forget();
    x = 3;
    stepper.step(decay, one, x, 0.1, 0.1);
    stepper.step(decay, two, y, 0.1, 0.1);
    CHECK(x == y);
  };
  check(ode::Dopri5{});
  check(ode::Tsit5{});
  check(ode::Bosh3{});
  check(ode::RK4{});
  check(ode::ExplicitAdams<4>{});
  check(ode::ImplicitAdams<4>{});
}
