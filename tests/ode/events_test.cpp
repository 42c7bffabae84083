#include "flowmatch/ode/events.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "flowmatch/ode/integrate.hpp"
#include "flowmatch/ode/runge_kutta.hpp"
#include "tests/ode/problems.hpp"
#include "tests/support/test_std.hpp"

namespace ode = flowmatch::ode;
using problems::Pair;

namespace {

const double pi = std::acos(-1.0);
const ode::AdaptiveOptions tight{.rtol = 1e-10, .atol = 1e-10};

/// (sin t, cos t)
Pair turn(const Pair& x, double) { return {x[1], -x[0]}; }

double height(double, const Pair& x) { return x[0]; }

}  // namespace

TEST_CASE("events: a falling ball lands when it should and the solve ends there") {
  Pair x = {10, 0};  // height, speed
  const auto fall = [](const Pair& s, double) { return Pair{s[1], -9.81}; };
  const auto result = ode::integrate_events(ode::Dopri5{}, fall, x, 0, 100,
                                            std::vector<ode::Event<Pair>>{{height}}, tight);
  const double landing = std::sqrt(2 * 10 / 9.81);
  REQUIRE(result.hits.size() == 1);
  CHECK(result.statistics.status == ode::Status::event);
  CHECK(result.hits[0].t == Approx(landing).epsilon(1e-12));
  CHECK(result.hits[0].x == x);
  CHECK(std::abs(x[0]) < 1e-12);
  CHECK(x[1] == Approx(-9.81 * landing).epsilon(1e-12));
}

TEST_CASE("events: directions are told apart forward and in reverse") {
  for (const bool reverse : {false, true}) {
    const double t0 = reverse ? 10 : 0.5;
    const double t1 = reverse ? 0.5 : 10;
    const auto hits = [&](ode::Direction direction) {
      Pair x = {std::sin(t0), std::cos(t0)};
      std::vector<double> times;
      const auto result = ode::integrate_events(
          ode::Tsit5{}, turn, x, t0, t1,
          std::vector<ode::Event<Pair>>{{height, direction, /*terminal=*/false}}, tight);
      CHECK(result.statistics.status == ode::Status::finished);
      for (const auto& hit : result.hits) times.push_back(hit.t);
      return times;
    };
    // sin passes 0 at pi falling, 2 pi rising, 3 pi falling; in reverse the other way round.
    const auto check = [](const std::vector<double>& found, const std::vector<double>& expected) {
      REQUIRE(found.size() == expected.size());
      for (std::size_t i = 0; i < found.size(); ++i)
        CHECK(found[i] == Approx(expected[i]).epsilon(1e-8));
    };
    const std::vector<double> odd =
        reverse ? std::vector<double>{3 * pi, pi} : std::vector<double>{pi, 3 * pi};
    check(hits(reverse ? ode::Direction::rising : ode::Direction::falling), odd);
    check(hits(reverse ? ode::Direction::falling : ode::Direction::rising), {2 * pi});
    CHECK(hits(ode::Direction::any).size() == 3);
  }
}

TEST_CASE("events: several in one step come in the order of their times") {
  double x = 0;
  const auto at = [](double level) {
    return ode::Event<double>{[level](double, const double& y) { return y - level; },
                              ode::Direction::any, level > 0.7};
  };
  // One step over all: x = t.
  const auto result = ode::integrate_events(
      ode::Dopri5{}, [](double, double) { return 1.0; }, x, 0, 1,
      std::vector<ode::Event<double>>{at(0.9), at(0.2), at(0.8), at(0.6)}, {.first_step = 1});
  REQUIRE(result.hits.size() == 3);
  CHECK(result.hits[0].event == 1);
  CHECK(result.hits[1].event == 3);
  CHECK(result.hits[2].event == 2);
  CHECK(result.hits[2].t == Approx(0.8).epsilon(1e-14));
  CHECK(x == Approx(0.8).epsilon(1e-14));
  CHECK(result.statistics.accepted == 1);
}

TEST_CASE("events: a start at zero is no event and an end at zero is one") {
  double x = 0;
  const auto rise = [](double, double) { return 1.0; };
  const auto level = [](double t) {
    return std::vector<ode::Event<double>>{{[t](double, const double& y) { return y - t; }}};
  };
  CHECK(ode::integrate_events(ode::Bosh3{}, rise, x, 0, 1, level(0), {}).hits.empty());
  x = 0;
  const auto at_end = ode::integrate_events(ode::Bosh3{}, rise, x, 0, 1, level(1), {});
  REQUIRE(at_end.hits.size() == 1);
  CHECK(at_end.hits[0].t == Approx(1).epsilon(1e-14));
}

TEST_CASE("events: looking for events makes no evaluations of a method with its own interpolant") {
  Pair x = {0, 1};
  const auto without = ode::integrate(ode::Dopri5{}, turn, x, 0, 10, tight);
  Pair y = {0, 1};
  const auto with = ode::integrate_events(
      ode::Dopri5{}, turn, y, 0, 10, std::vector<ode::Event<Pair>>{{height, {}, false}}, tight);
  CHECK(with.statistics.evaluations == without.evaluations);
  CHECK(with.hits.size() == 3);
  CHECK(x == y);
}

TEST_CASE("events: a zero is found in few evaluations, exact to the last places") {
  const auto check = [](auto g, double a, double b, double zero, int most) {
    int calls = 0;
    const auto counted = [&](double t) {
      ++calls;
      return g(t);
    };
    CHECK(ode::detail::find_zero(counted, a, g(a), b, g(b)) == Approx(zero).epsilon(1e-15));
    CHECK(calls <= most);
  };
  // Convex ones, where plain regula falsi keeps one end for ever and a bisection takes 53.
  const auto exponential = [](double t) { return std::exp(5 * t) - 3; };
  check(exponential, 0, 1, std::log(3.0) / 5, 12);
  check(exponential, 1, 0, std::log(3.0) / 5, 12);
  check([](double t) { return t * t * t - 2; }, 0, 2, std::cbrt(2.0), 10);
  check([](double t) { return t - 0.3; }, 0, 1, 0.3, 4);
  // What is no curve at all costs no more than the bisection.
  check([](double t) { return t < 0.7 ? -1.0 : 1.0; }, 0, 1, 0.7, 55);
  check([](double t) { return t < 0.5 ? -infinity : 1.0; }, 0, 1, 0.5, 55);
  check([](double t) { return std::tanh(1e6 * (t - 0.123)); }, 0, 1, 0.123, 30);
}

TEST_CASE("events: the zero that is found lies on the side where the solve goes on") {
  for (const double zero : {0.1, 0.2, 0.3, 0.7, 0.9}) {
    const auto g = [&](double t) { return std::exp(t) - std::exp(zero) * (1 + 1e-16); };
    CHECK(g(ode::detail::find_zero(g, 0, g(0), 1, g(1))) >= 0);
    CHECK(g(ode::detail::find_zero(g, 1, g(1), 0, g(0))) <= 0);
  }
}

TEST_CASE("events: a g that is NaN or missing is an error, not an event that did not take place") {
  const auto f = [](double, double) { return 1.0; };
  const auto solve = [&](const ode::Event<double>& event) {
    double x = 0;
    ode::integrate_events(ode::Dopri5{}, f, x, 0, 3, std::vector<ode::Event<double>>{event},
                          {.max_step = 0.1});
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  require_error<flowmatch::SolverError>(
      [&] { solve({[&](double t, double) { return t < 1   ? 1
                                                  : t < 2 ? nan
                                                          : -1; }}); },
      "g of event 0 is NaN");
  require_error<flowmatch::OptionError>([&] { solve({}); }, "has no g");
}
