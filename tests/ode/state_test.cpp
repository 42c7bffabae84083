#include "flowmatch/ode/state.hpp"

#include <cmath>
#include <limits>
#include <string>

#include "flowmatch/ode/integrate.hpp"
#include "flowmatch/ode/runge_kutta.hpp"
#include "tests/support/test_std.hpp"

namespace ode = flowmatch::ode;

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

TEST_CASE("state: sums are right when they are written over their start or into empty buffers") {
  using Vector = std::vector<double>;
  using Traits = ode::state_traits<Vector>;
  const Vector x = {1, 2};
  const std::vector<Vector> k = {{10, 20}, {100, 200}};
  const double c[] = {0.5, -1};
  Vector out;
  Traits::combine(out, x, c, k);
  CHECK(out == Vector{1 + 5 - 100, 2 + 10 - 200});
  Vector own = x;
  Traits::combine(own, own, c, k);
  CHECK(own == out);
  Vector difference;
  Traits::difference(difference, c, k);
  CHECK(difference == Vector{5 - 100, 10 - 200});
  Traits::combine(out, x, {}, {});
  CHECK(out == x);
  double scalar = 3;
  const double slopes[] = {2, 4};
  ode::state_traits<double>::combine(scalar, scalar, c, slopes);
  CHECK(scalar == 0);
  ode::state_traits<double>::difference(scalar, c, slopes);
  CHECK(scalar == -3);
}

TEST_CASE("state: a derivative of another size than the state is refused") {
  std::vector<double> x = {1, 2, 3};
  const auto shorter = [](const std::vector<double>&, double) { return std::vector<double>{1}; };
  require_error<flowmatch::ShapeError>(
      [&] { ode::integrate(ode::Euler{}, shorter, x, ode::TimeGrid::uniform(2)); },
      "1 elements for a state of 3");
  const auto longer = [](const std::vector<double>&, double, std::vector<double>& k) {
    k.assign(4, 0.0);
  };
  require_error<flowmatch::ShapeError>(
      [&] { ode::integrate(ode::Dopri5{}, longer, x, 0, 1, ode::AdaptiveOptions{}); },
      "4 elements for a state of 3");
  CHECK(x == std::vector<double>{1, 2, 3});
}

namespace {
struct Untaught {
  double x = 0;
};
struct Returns {
  double operator()(double x, double) const { return x; }
};
struct Writes {
  void operator()(const double&, double, double& k) const { k = 0; }
};
struct WritesAndReturns {
  int operator()(const double&, double, double&) const { return 0; }
};
}  // namespace

TEST_CASE("state: concepts know states and systems from other things") {
  static_assert(ode::State<double> && ode::State<std::array<float, 3>>);
  static_assert(ode::State<std::vector<float>>);
  static_assert(!ode::State<int> && !ode::State<Untaught> && !ode::State<std::vector<int>>);
  static_assert(ode::System<Returns, double> && ode::System<Writes, double>);
  static_assert(!ode::System<WritesAndReturns, double> && !ode::System<int, double>);
  static_assert(!ode::System<Returns, std::vector<double>>);
  double x = 1;
  ode::integrate(ode::Euler{}, Writes{}, x, ode::TimeGrid::uniform(3));
  CHECK(x == 1);
}
