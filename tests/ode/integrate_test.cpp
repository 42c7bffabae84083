#include "flowmatch/ode/integrate.hpp"

#include <array>
#include <cstdlib>
#include <limits>
#include <new>
#include <vector>

#include "flowmatch/ode/adapt.hpp"
#include "flowmatch/ode/integrate_times.hpp"
#include "flowmatch/ode/method.hpp"
#include "flowmatch/ode/runge_kutta.hpp"
#include "tests/ode/problems.hpp"
#include "tests/support/test_std.hpp"

namespace ode = flowmatch::ode;
using flowmatch::OptionError;
using flowmatch::SolverError;
using problems::Pair;

// Counts every allocation of this binary. GCC takes the pair below for a mismatch once it has
// inlined one of them.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
#endif
static long allocations = 0;
void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
// AddressSanitizer has this one of its own otherwise, whose memory the deletes below may not free.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(size);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

const char* const methods[] = {"euler",  "midpoint",      "heun2",          "heun3",
                               "rk4",    "rk4_classic",   "explicit_adams", "implicit_adams",
                               "bosh3",  "adaptive_heun", "fehlberg2",      "tsit5",
                               "dopri5", "dopri8"};

constexpr double quiet_nan = std::numeric_limits<double>::quiet_NaN();

/// The time of every evaluation of x' = -x.
struct Recorder {
  std::vector<double>* times;
  double operator()(double x, double t) const {
    times->push_back(t);
    return -x;
  }
};

void check_within(const std::vector<double>& times, double t0, double t1) {
  REQUIRE_FALSE(times.empty());
  for (const double t : times) {
    CHECK(t >= std::min(t0, t1));
    CHECK(t <= std::max(t0, t1));
  }
}

}  // namespace

TEST_CASE("integrate: fixed steps end at t1 and count themselves") {
  double x = 1;
  double last = 0;
  const auto s = ode::integrate(
      ode::RK4{}, [](double y, double) { return -y; }, x, ode::TimeGrid::uniform(10, 0.1, 0.7),
      [&](double t, double) { last = t; });
  CHECK(s.evaluations == 40);
  CHECK(s.accepted == 10);
  CHECK(s.smallest_step == Approx(0.06));
  CHECK(s.largest_step == Approx(0.06));
  CHECK(last == Approx(0.7).epsilon(1e-15));
  CHECK(x == Approx(std::exp(-0.6)).epsilon(1e-7));
}

TEST_CASE("integrate: no method evaluates outside the interval") {
  const double ends[][2] = {{0, 1}, {1, 0}, {0.1, 0.7}, {0.7, 0.1}, {-0.3, 1.1}, {5, 5.3}};
  for (const auto& [t0, t1] : ends) {
    for (const char* name : methods) {
      for (const std::int64_t steps : {1, 3, 7, 10}) {
        std::vector<double> times;
        INFO(name << " from " << t0 << " to " << t1 << " in " << steps);
        double x = 1;
        ode::with_method(name, [&, begin = t0, end = t1](auto method) {
          ode::integrate(method, Recorder{&times}, x, ode::TimeGrid::uniform(steps, begin, end));
        });
        check_within(times, t0, t1);
      }
    }
  }
}

TEST_CASE("integrate: dopri5 by tolerance evaluates inside the interval and ends at t1 exactly") {
  const double ends[][2] = {{0, 1}, {1, 0}, {0.1, 0.7}, {-0.3, 1.1}, {2, 2.0001}};
  for (const auto& [t0, t1] : ends) {
    for (const double first : {0.0, 0.05, 100.0}) {
      std::vector<double> times;
      double x = 1;
      double last = quiet_nan;
      ode::integrate(ode::Dopri5{}, Recorder{&times}, x, t0, t1,
                     {.rtol = 1e-8, .atol = 1e-8, .first_step = first},
                     [&](double t, double) { last = t; });
      check_within(times, t0, t1);
      CHECK(last == t1);
      CHECK(x == Approx(std::exp(-(t1 - t0))).epsilon(1e-7));
    }
  }
}

TEST_CASE("integrate: dopri5 takes 2 + 6 evaluations a tried step") {
  Pair x = {1, 0};
  // A kink makes it reject steps.
  const auto f = [](const Pair& y, double t) { return Pair{std::abs(t - 0.5) * 50 * y[1], -y[0]}; };
  const auto s = ode::integrate(ode::Dopri5{}, f, x, 0, 2, {.rtol = 1e-7, .atol = 1e-9});
  CHECK(s.rejected > 0);
  CHECK(s.evaluations == 2 + 6 * (s.accepted + s.rejected));
  Pair y = {1, 0};
  const auto given =
      ode::integrate(ode::Dopri5{}, f, y, 0, 2, {.rtol = 1e-7, .atol = 1e-9, .first_step = 0.01});
  CHECK(given.evaluations == 1 + 6 * (given.accepted + given.rejected));
}

TEST_CASE("integrate: dopri5 meets its tolerance on known solutions forward and in reverse") {
  for (const problems::Problem& p : problems::all()) {
    for (const bool reverse : {false, true}) {
      for (const double tolerance : {1e-4, 1e-7, 1e-10}) {
        const double t0 = reverse ? p.t1 : p.t0;
        const double t1 = reverse ? p.t0 : p.t1;
        Pair x = p.solution(t0);
        const auto s =
            ode::integrate(ode::Dopri5{}, p.f, x, t0, t1, {.rtol = tolerance, .atol = tolerance});
        INFO(p.name << ", " << tolerance << ", " << s.accepted << " steps");
        CHECK(problems::error(x, p.solution(t1)) < 50 * tolerance);
        CHECK(s.accepted < 200);
      }
    }
  }
}

TEST_CASE("integrate: steps respect min_step and max_step") {
  double x = 1;
  const auto f = [](double y, double) { return -y; };
  auto s =
      ode::integrate(ode::Dopri5{}, f, x, 0, 1, {.rtol = 1e-3, .atol = 1e-3, .max_step = 0.05});
  CHECK(s.largest_step <= 0.05);
  CHECK(s.accepted >= 20);
  x = 1;
  const auto jump = [](double, double t) { return t < 0.5 ? 0.0 : 1e6; };
  require_error<SolverError>(
      [&] {
        ode::integrate(ode::Dopri5{}, jump, x, 0, 1,
                       {.rtol = 1e-9, .atol = 1e-9, .min_step = 0.01});
      },
      "lower min_step");
}

TEST_CASE("integrate: NaN or Inf from the model is an error that says where") {
  for (const double bad : {quiet_nan, std::numeric_limits<double>::infinity()}) {
    double x = 1;
    const auto later = [bad](double y, double t) { return t > 0.6 ? bad : -y; };
    try {
      ode::integrate(ode::Dopri5{}, later, x, 0, 1, {.rtol = 1e-6, .atol = 1e-6});
      FAIL("nothing was thrown");
    } catch (const SolverError& error) {
      CHECK(std::string(error.what()).find("NaN or infinite") != std::string::npos);
      CHECK(error.t() <= 0.6);
      CHECK(error.step_size() > 0);
      CHECK(error.evaluations() >= 8);
    }
    const auto at_once = [bad](double, double) { return bad; };
    require_error<SolverError>([&] { ode::integrate(ode::Dopri5{}, at_once, x, 0, 1, {}); },
                               "NaN or infinite");
  }
}

TEST_CASE("integrate: a singularity underflows the step or uses up the steps") {
  double x = 1;
  const auto blow_up = [](double y, double) { return y * y; };  // 1 / (1 - t)
  CHECK_THROWS_AS(ode::integrate(ode::Dopri5{}, blow_up, x, 0, 2,
                                 {.rtol = 1e-8, .atol = 1e-8, .max_steps = 5000}),
                  SolverError);
  x = 1;
  require_error<SolverError>(
      [&] {
        ode::integrate(ode::Dopri5{}, [](double y, double) { return -y; }, x, 0, 1000,
                       {.rtol = 1e-8, .atol = 1e-8, .max_steps = 10});
      },
      "raise max_steps");
}

TEST_CASE("integrate: options out of range are named") {
  double x = 1;
  const auto f = [](double y, double) { return -y; };
  const auto with = [&](ode::AdaptiveOptions options) {
    return [&f, &x, options] { ode::integrate(ode::Dopri5{}, f, x, 0, 1, options); };
  };
  require_error<OptionError>(with({.rtol = -1}), "rtol is");
  require_error<OptionError>(with({.rtol = quiet_nan}), "rtol is");
  require_error<OptionError>(with({.atol = -1}), "atol is");
  require_error<OptionError>(with({.atol = quiet_nan}), "atol is");
  require_error<OptionError>(with({.rtol = 0, .atol = 0}), "at least one of them above 0");
  require_error<OptionError>(with({.first_step = -0.1}), "first_step is");
  require_error<OptionError>(with({.min_step = quiet_nan}), "min_step is");
  require_error<OptionError>(with({.max_step = 0}), "max_step is");
  require_error<OptionError>(with({.max_steps = 0}), "max_steps is");
  require_error<OptionError>(
      [&] { ode::integrate(ode::Dopri5{}, f, x, 1, 1, ode::AdaptiveOptions{}); },
      "two finite, different times");
}

TEST_CASE("integrate: the post's grid goes with euler only") {
  double x = 1;
  std::vector<double> times;
  ode::integrate(ode::Euler{}, Recorder{&times}, x, ode::TimeGrid::post(5));
  CHECK(times == std::vector<double>{0, 0.25, 0.5, 0.75, 1});
  CHECK(x == Approx(std::pow(0.8, 5)));
  require_error<OptionError>(
      [&] { ode::integrate(ode::Midpoint{}, Recorder{&times}, x, ode::TimeGrid::post(5)); },
      "TimeGrid::uniform");
  require_error<OptionError>(
      [&] { ode::integrate(ode::ExplicitAdams<>{}, Recorder{&times}, x, ode::TimeGrid::post(5)); },
      "not explicit_adams");
}

TEST_CASE("integrate: an observer sees every step and may stop the solve") {
  double x = 1;
  const auto f = [](double, double) { return 1.0; };
  std::vector<double> seen;
  const auto s =
      ode::integrate(ode::Euler{}, f, x, ode::TimeGrid::uniform(10), [&](double t, double y) {
        seen.push_back(t);
        CHECK(y == Approx(1 + t));
        return t < 0.45;
      });
  CHECK(seen.size() == 5);
  CHECK(s.status == ode::Status::stopped);
  CHECK(x == Approx(1.5));
  x = 1;
  const auto adaptive = ode::integrate(ode::Dopri5{}, f, x, 0, 1, {.max_step = 0.1},
                                       [](double, double) { return false; });
  CHECK(adaptive.status == ode::Status::stopped);
  CHECK(adaptive.accepted == 1);
}

TEST_CASE("integrate: nothing is allocated after the first step") {
  const auto count = [](auto x, auto f) {
    long after_first = -1;
    long end = 0;
    ode::integrate(ode::Dopri5{}, f, x, 0, 50, {.rtol = 1e-8, .atol = 1e-8},
                   [&](double, const auto&) {
                     if (after_first < 0) after_first = allocations;
                     end = allocations;
                   });
    CHECK(end > 0);
    return end - after_first;
  };
  CHECK(count(Pair{1, 0}, [](const Pair& x, double, Pair& k) { k = {x[1], -x[0]}; }) == 0);
  const auto turn = [](const std::vector<double>& x, double, std::vector<double>& k) {
    k[0] = x[1];
    k[1] = -x[0];
  };
  CHECK(count(std::vector<double>{1, 0}, turn) == 0);
  for (const char* name : methods) {
    INFO(name);
    ode::with_method(name, [&](auto method) {
      std::vector<double> x = {1, 0};
      long after_first = -1;
      long end = 0;
      ode::integrate(method, turn, x, ode::TimeGrid::uniform(20), [&](double, const auto&) {
        if (after_first < 0) after_first = allocations;
        end = allocations;
      });
      CHECK(end == after_first);
    });
  }
}

TEST_CASE("integrate: vectors and arrays and doubles and floats agree") {
  const ode::TimeGrid grid = ode::TimeGrid::uniform(20);
  double a = 1;
  float b = 1;
  std::vector<double> c = {1};
  std::array<double, 1> d = {1};
  ode::integrate(
      ode::RK4{}, [](double x, double t) { return -x * t; }, a, grid);
  ode::integrate(
      ode::RK4{}, [](float x, double t) { return static_cast<float>(-x * t); }, b, grid);
  ode::integrate(
      ode::RK4{},
      [](const std::vector<double>& x, double t) { return std::vector<double>{-x[0] * t}; }, c,
      grid);
  ode::integrate(
      ode::RK4{},
      [](const std::array<double, 1>& x, double t) { return std::array<double, 1>{-x[0] * t}; }, d,
      grid);
  CHECK(a == Approx(std::exp(-0.5)).epsilon(1e-7));
  CHECK(b == Approx(a).epsilon(1e-6));
  CHECK(c[0] == a);
  CHECK(d[0] == a);
}

TEST_CASE("integrate: fixed steps tell the observer the grid's times and t1 exactly") {
  const double ends[][2] = {{0, 1}, {0.1, 0.7}, {0.7, 0.1}, {-0.3, 1.1}, {0.3, 0.9}};
  for (const auto& [t0, t1] : ends) {
    for (const std::int64_t n : {1, 3, 7, 10, 49}) {
      const ode::TimeGrid grid = ode::TimeGrid::uniform(n, t0, t1);
      std::vector<double> seen;
      double x = 1;
      ode::integrate(
          ode::Heun3{}, [](double y, double) { return -y; }, x, grid,
          [&](double t, double) { seen.push_back(t); });
      REQUIRE(seen.size() == static_cast<std::size_t>(n));
      for (std::size_t i = 0; i + 1 < seen.size(); ++i) CHECK(seen[i] == grid.steps()[i + 1].t);
      CHECK(seen.back() == t1);
    }
  }
  std::vector<double> seen;
  double x = 1;
  ode::integrate(
      ode::Euler{}, [](double, double) { return 0.0; }, x, ode::TimeGrid::post(10),
      [&](double t, double) { seen.push_back(t); });
  CHECK(seen[4] == Approx(0.5));
  CHECK(seen.back() == 1);
}

TEST_CASE("integrate: a last step a little too short is made longer instead of adding a sliver") {
  double x = 0;
  // Ten times 0.1 is not 1: an eleventh step of 1e-16 would cost six evaluations.
  auto s = ode::integrate(ode::Dopri5{}, [](double, double) { return 1.0; }, x, 0, 1,
                          {.first_step = 0.1, .max_step = 0.1});
  CHECK(s.accepted == 10);
  CHECK(s.smallest_step == Approx(0.1));
  CHECK(s.largest_step == Approx(0.1));
  CHECK(x == Approx(1).epsilon(1e-14));
  s = ode::integrate(ode::Dopri5{}, [](double, double) { return 1.0; }, x, 0, 1,
                     {.first_step = 0.995});
  CHECK(s.accepted == 1);
  s = ode::integrate(ode::Dopri5{}, [](double, double) { return 1.0; }, x, 0, 1,
                     {.first_step = 0.9});
  CHECK(s.accepted == 2);
}

TEST_CASE("integrate: dopri5 keeps to its tolerance in the maximum norm and with the PI rule") {
  for (const problems::Problem& p : problems::all()) {
    const ode::AdaptiveOptions options{.rtol = 1e-8, .atol = 1e-8, .norm = ode::ErrorNorm::max};
    INFO(p.name);
    Pair x = p.solution(p.t0);
    ode::integrate(ode::Dopri5{}, p.f, x, p.t0, p.t1, options);
    CHECK(problems::error(x, p.solution(p.t1)) < 1e-7);
    Pair y = p.solution(p.t0);
    const auto s = ode::integrate(ode::Dopri5{}, p.f, y, p.t0, p.t1, options, ode::NoObserver{},
                                  ode::pi_controller());
    CHECK(problems::error(y, p.solution(p.t1)) < 1e-7);
    CHECK(y != x);
    CHECK(s.evaluations == 2 + 6 * (s.accepted + s.rejected));
  }
}

TEST_CASE("integrate: a tighter tolerance gives a smaller error in proportion") {
  const problems::Problem& p = problems::all().front();
  double errors[3];
  for (int i = 0; i < 3; ++i) {
    Pair x = p.solution(p.t0);
    const double tolerance = std::pow(10, -4 - 3 * i);
    ode::integrate(ode::Dopri5{}, p.f, x, p.t0, p.t1, {.rtol = tolerance, .atol = tolerance});
    errors[i] = problems::error(x, p.solution(p.t1));
  }
  CHECK(errors[1] < errors[0] / 50);
  CHECK(errors[2] < errors[1] / 50);
}

TEST_CASE("integrate: a model at rest and an empty state are solved in few steps") {
  double x = 2;
  const auto s = ode::integrate(
      ode::Dopri5{}, [](double, double) { return 0.0; }, x, 0, 1, ode::AdaptiveOptions{});
  CHECK(x == 2);
  CHECK(s.accepted <= 10);
  CHECK(s.rejected == 0);
  std::vector<double> none;
  const auto e = ode::integrate(
      ode::Dopri5{}, [](const std::vector<double>& y, double) { return y; }, none, 0, 1,
      ode::AdaptiveOptions{});
  CHECK(e.accepted <= 10);
}

TEST_CASE("integrate: a zero with atol = 0 is named as such and positive states need no atol") {
  std::vector<double> x = {1, 0};
  const auto f = [](const std::vector<double>& y, double) {
    return std::vector<double>{-y[0], -y[1]};
  };
  require_error<SolverError>(
      [&] { ode::integrate(ode::Dopri5{}, f, x, 0, 1, {.rtol = 1e-6, .atol = 0}); },
      "choose an atol above 0");
  x = {1, 1e-6};
  ode::integrate(ode::Dopri5{}, f, x, 0, 1, {.rtol = 1e-8, .atol = 0});
  CHECK(x[1] == Approx(1e-6 * std::exp(-1)).epsilon(1e-7));
}

TEST_CASE("integrate: a start that is not finite is an error before the first step") {
  for (const double bad : {quiet_nan, std::numeric_limits<double>::infinity()}) {
    for (const double first : {0.0, 0.1}) {
      double x = bad;
      try {
        ode::integrate(ode::Dopri5{}, [](double y, double) { return -y; }, x, 0.25, 1,
                       {.first_step = first});
        FAIL("nothing was thrown");
      } catch (const SolverError& error) {
        CHECK(error.t() == 0.25);
        CHECK(error.evaluations() <= 7);
      }
    }
  }
}

TEST_CASE("integrate: a step below the time's precision is an error that says so") {
  double x = 1;
  try {
    ode::integrate(ode::Dopri5{}, [](double y, double) { return -y; }, x, 1, 2,
                   {.first_step = 1e-30});
    FAIL("nothing was thrown");
  } catch (const SolverError& error) {
    CHECK(std::string(error.what()).find("too small for the time's precision") !=
          std::string::npos);
    CHECK(error.t() == 1);
    CHECK(error.step_size() == 1e-30);
    CHECK(error.evaluations() == 0);
  }
  CHECK(x == 1);
  // Where the solution blows up, at t = 1, the steps shrink until they vanish or the values
  // overflow.
  try {
    ode::integrate(ode::Dopri5{}, [](double y, double) { return y * y; }, x, 0, 2,
                   {.rtol = 1e-8, .atol = 1e-8});
    FAIL("nothing was thrown");
  } catch (const SolverError& error) {
    CHECK(error.t() == Approx(1).epsilon(1e-6));
    CHECK(error.step_size() < 1e-6);
    CHECK(error.evaluations() > 100);
  }
}

TEST_CASE("integrate: the step limit counts tried steps and the state is where it got to") {
  double x = 1;
  double last = 0;
  try {
    ode::integrate(
        ode::Dopri5{}, [](double y, double) { return -y; }, x, 0, 1000,
        {.rtol = 1e-8, .atol = 1e-8, .max_steps = 10}, [&](double t, double) { last = t; });
    FAIL("nothing was thrown");
  } catch (const SolverError& error) {
    CHECK(error.evaluations() == 2 + 6 * 10);
    CHECK(error.t() == last);
    CHECK(error.t() > 0);
    CHECK(x == Approx(std::exp(-error.t())).epsilon(1e-6));
  }
}

TEST_CASE("integrate: a wanted min_step is kept and the last step may be shorter") {
  double x = 1;
  std::vector<double> times = {0};
  ode::integrate(
      ode::Dopri5{}, [](double y, double) { return -y; }, x, 0, 1,
      {.rtol = 1e-3, .atol = 1e-3, .min_step = 0.3, .max_step = 0.3},
      [&](double t, double) { times.push_back(t); });
  REQUIRE(times.size() == 5);
  CHECK(times[1] == 0.3);
  CHECK(times[4] == 1);
  CHECK(x == Approx(std::exp(-1)).epsilon(1e-4));
}

TEST_CASE("integrate: floats choose their steps and meet a float tolerance") {
  std::array<float, 2> x = {0, 1};
  const auto s = ode::integrate(ode::Dopri5{},
                                [](const std::array<float, 2>& y, double) {
                                  return std::array<float, 2>{y[1], -y[0]};
                                },
                                x, 0, 3, {.rtol = 1e-5, .atol = 1e-5});
  CHECK(x[0] == Approx(std::sin(3.0)).margin(1e-4));
  CHECK(x[1] == Approx(std::cos(3.0)).margin(1e-4));
  CHECK(s.accepted < 60);
}

TEST_CASE("integrate: statistics of solves add up") {
  ode::Statistics a{10, 2, 1, 0.1, 0.3};
  a += ode::Statistics{6, 1, 0, 0.05, 0.05, ode::Status::stopped};
  CHECK(a.evaluations == 16);
  CHECK(a.accepted == 3);
  CHECK(a.rejected == 1);
  CHECK(a.smallest_step == 0.05);
  CHECK(a.largest_step == 0.3);
  CHECK(a.status == ode::Status::stopped);
}

TEST_CASE("integrate: steps that there were not have no size") {
  ode::Statistics none;
  CHECK(std::isnan(none.smallest_step));
  CHECK(std::isnan(none.largest_step));
  none += ode::Statistics{};
  CHECK(std::isnan(none.smallest_step));
  CHECK(std::isnan(none.largest_step));
  none += ode::Statistics{6, 1, 0, 0.05, 0.1};
  none += ode::Statistics{};
  CHECK(none.smallest_step == 0.05);
  CHECK(none.largest_step == 0.1);
  double x = 1;
  const auto s = ode::integrate(ode::Dopri5{}, [](double y, double) { return -1e6 * y; }, x, 0, 1,
                                {.first_step = 1, .max_steps = 1, .at_limit = ode::AtLimit::stop});
  CHECK(s.accepted == 0);
  CHECK(s.rejected == 1);
  CHECK(std::isnan(s.smallest_step));
  CHECK(std::isnan(s.largest_step));
}

TEST_CASE("integrate: at the step limit the last state comes back where that is asked for") {
  double x = 1;
  double last = 0;
  const auto s = ode::integrate(
      ode::Dopri5{}, [](double y, double) { return -y; }, x, 0, 1000,
      {.rtol = 1e-8, .atol = 1e-8, .max_steps = 10, .at_limit = ode::AtLimit::stop},
      [&](double t, double) { last = t; });
  CHECK(s.status == ode::Status::step_limit);
  CHECK(s.accepted + s.rejected == 10);
  CHECK(last > 0);
  CHECK(x == Approx(std::exp(-last)).epsilon(1e-6));
}

TEST_CASE("integrate: a jump in the right-hand side costs next to nothing where it is named") {
  const auto f = [](double, double t) { return t < 0.3 ? 1.0 : t < 0.7 ? -20.0 : 3.0; };
  const double end = 0.3 - 20 * 0.4 + 3 * 0.3;
  for (const bool reverse : {false, true}) {
    const double t0 = reverse ? 1 : 0;
    const auto solve = [&](std::vector<double> jumps, double& x) {
      return ode::integrate(ode::Dopri5{}, f, x, t0, 1 - t0,
                            {.rtol = 1e-9, .atol = 1e-9, .jumps = std::move(jumps)});
    };
    double with = 0;
    const auto named = solve({0.7, 5, 0.3, -1, 0}, with);
    CHECK(with == Approx(reverse ? -end : end).epsilon(1e-12));
    CHECK(named.rejected == 0);
    double without = 0;
    CHECK(solve({}, without).evaluations > 2 * named.evaluations);
  }
}

TEST_CASE("integrate: a norm of the user's decides what counts as an error") {
  // Only the first component counts; the second is hard.
  const auto f = [](const Pair& x, double t) {
    return Pair{-x[0], std::cos(200 * t) * 200 + 0 * x[1]};
  };
  const auto first_only = [](const Pair& error, const Pair& a, const Pair&,
                             const ode::Tolerance& tolerance) {
    return std::abs(error[0]) / (tolerance.atol + tolerance.rtol * std::abs(a[0])) + 0 * error[1];
  };
  Pair x = {1, 0};
  Pair y = {1, 0};
  const ode::AdaptiveOptions options{.rtol = 1e-6, .atol = 1e-6};
  const auto both = ode::integrate(ode::Dopri5{}, f, x, 0, 1, options);
  const auto one = ode::integrate(ode::Dopri5{}, f, y, 0, 1, options, ode::NoObserver{},
                                  ode::PIDController{}, first_only);
  CHECK(one.accepted < both.accepted / 4);
  CHECK(y[0] == Approx(std::exp(-1)).epsilon(1e-5));
}

TEST_CASE("integrate: the first step is as long as the rule has it, in either direction") {
  for (const double direction : {1.0, -1.0}) {
    std::vector<double> times;
    double x = 1;
    ode::integrate(ode::AdaptiveHeun{}, Recorder{&times}, x, 0, direction, {});
    // |x| and |dx/dt| are 1 and their tolerance 2e-5: a trial step of 0.01 |x| / |dx/dt|, over
    // which the derivative changes by as much, then 0.01 in units of the tolerance.
    CHECK(times[1] == Approx(0.01 * direction).epsilon(1e-12));
    CHECK(times[2] == Approx(std::sqrt(0.01 * 2e-5) * direction).epsilon(1e-6));
  }
}

TEST_CASE("integrate: jumps at the ends or beyond change nothing") {
  double x = 1;
  const auto f = [](double y, double) { return -y; };
  const auto plain = ode::integrate(ode::Dopri5{}, f, x, 0, 1, {});
  double y = 1;
  const auto with = ode::integrate(ode::Dopri5{}, f, y, 0, 1, {.jumps = {0, 1, -0.5, 2}});
  CHECK(y == x);
  CHECK(with.evaluations == plain.evaluations);
}

TEST_CASE("integrate: a jump where the solve begins or ends is seen from within") {
  const auto f = [](double, double t) { return t == 0.5 ? 1e3 : t < 0.5 ? 1.0 : 2.0; };
  const ode::AdaptiveOptions options{.jumps = {0.1 + 0.4}};
  for (const auto& [from, to, slope] : {std::array{0.0, 0.5, 1.0}, std::array{0.5, 1.0, 2.0},
                                        std::array{0.5, 0.0, 1.0}, std::array{1.0, 0.5, 2.0}}) {
    double x = 0;
    const ode::Statistics s = ode::integrate(ode::Dopri5{}, f, x, from, to, options);
    CHECK(x == Approx(slope * (to - from)).epsilon(1e-12));
    CHECK(s.rejected == 0);
    double y = 0;
    ode::integrate_times(ode::Dopri5{}, f, y, {from, (from + to) / 2, to}, options,
                         ode::NoObserver{});
    CHECK(y == Approx(slope * (to - from)).epsilon(1e-12));
  }
}
