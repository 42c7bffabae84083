#include "flowmatch/ode/control.hpp"

#include <cmath>

#include "tests/support/test_std.hpp"

namespace ode = flowmatch::ode;

TEST_CASE("control: the integral rule follows its formula within its limits") {
  const ode::IntegralController control;
  static_assert(ode::StepController<ode::IntegralController> &&
                ode::StepController<ode::PIController>);
  static_assert(!ode::StepController<double>);
  CHECK(control(0.5, 5).accept);
  CHECK(control(0.5, 5).factor == Approx(0.9 * std::pow(0.5, -0.2)));
  CHECK_FALSE(control(2, 5).accept);
  CHECK(control(2, 5).factor == Approx(0.9 * std::pow(2, -0.2)));
  CHECK(control(1, 5).accept);
  CHECK(control(1, 5).factor == 1);       // an accepted step never shrinks the next
  CHECK(control(1e12, 5).factor == 0.2);  // min_factor
  CHECK(control(1e-12, 5).factor == 10);  // max_factor
  CHECK(control(0, 5).factor == 10);
}

TEST_CASE("control: the PI rule remembers the last error") {
  ode::PIController control;
  const double first = control(0.5, 5).factor;
  CHECK(first == Approx(0.9 * std::pow(0.5, -0.14)));
  const double second = control(0.5, 5).factor;
  CHECK(second == Approx(0.9 * std::pow(0.5, -0.14) * std::pow(0.5, 0.08)));
  CHECK_FALSE(control(3, 5).accept);
  CHECK(control(3, 5).factor < 1);
  CHECK(control(0, 5).accept);
}

TEST_CASE("state: the norms are what they say and carry NaN") {
  using Traits = ode::state_traits<std::array<double, 2>>;
  const std::array<double, 2> v = {0.3, -0.4}, a = {1, -2}, b = {-3, 0};
  const ode::Tolerance rms{0.1, 0.2, ode::ErrorNorm::rms}, max{0.1, 0.2, ode::ErrorNorm::max};
  const double r0 = 0.3 / (0.2 + 0.1 * 3), r1 = 0.4 / (0.2 + 0.1 * 2);
  CHECK(Traits::norm(v, a, b, rms) == Approx(std::sqrt((r0 * r0 + r1 * r1) / 2)));
  CHECK(Traits::norm(v, a, b, max) == Approx(r1));
  const std::array<double, 2> bad = {std::nan(""), 0};
  CHECK(std::isnan(Traits::norm(bad, a, b, rms)));
  CHECK(std::isnan(Traits::norm(bad, a, b, max)));
  CHECK(ode::state_traits<std::vector<double>>::norm({}, {}, {}, rms) == 0);
}

namespace {
struct Body {
  double position = 0;
  double velocity = 0;
};
}  // namespace

template <>
struct flowmatch::ode::state_traits<Body> {
  static void combine(Body& out, const Body& x, std::span<const double> c,
                      std::span<const Body> k) {
    Body sum = x;
    for (std::size_t i = 0; i < c.size(); ++i) {
      sum.position += c[i] * k[i].position;
      sum.velocity += c[i] * k[i].velocity;
    }
    out = sum;
  }
  static void difference(Body& out, std::span<const double> c, std::span<const Body> k) {
    combine(out, Body{}, c, k);
  }
  static double norm(const Body& v, const Body&, const Body&, const Tolerance& tolerance) {
    return std::hypot(v.position, v.velocity) / tolerance.atol;
  }
  static void own(Body&, const Body&) {}
};

#include "flowmatch/ode/integrate.hpp"
#include "flowmatch/ode/runge_kutta.hpp"

TEST_CASE("state: a type of one's own is integrated through its traits") {
  static_assert(ode::State<Body> && ode::State<float> && !ode::State<std::string>);
  Body body{0, 1};
  ode::integrate(ode::Dopri5{},
                 [](const Body& b, double) {
                   return Body{b.velocity, -b.position};
                 },
                 body, 0, 1, {.rtol = 0, .atol = 1e-8});
  CHECK(body.position == Approx(std::sin(1.0)).epsilon(1e-7));
  CHECK(body.velocity == Approx(std::cos(1.0)).epsilon(1e-7));
}
