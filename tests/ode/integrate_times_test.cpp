#include "flowmatch/ode/integrate_times.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "flowmatch/ode/integrate.hpp"
#include "flowmatch/ode/method.hpp"
#include "flowmatch/ode/runge_kutta.hpp"
#include "tests/ode/problems.hpp"
#include "tests/support/test_std.hpp"

namespace ode = flowmatch::ode;
using flowmatch::OptionError;
using problems::Pair;

namespace {

const ode::AdaptiveOptions tight{.rtol = 1e-9, .atol = 1e-9};

std::vector<double> between(double t0, double t1, int n) {
  std::vector<double> times;
  for (int i = 0; i <= n; ++i) times.push_back(i == n ? t1 : t0 + (t1 - t0) * i / n);
  return times;
}

}  // namespace

TEST_CASE("integrate_times: the observer hears of the solution at the times exactly") {
  for (const problems::Problem& p : problems::all()) {
    for (const bool reverse : {false, true}) {
      const std::vector<double> times = reverse ? between(p.t1, p.t0, 9) : between(p.t0, p.t1, 9);
      std::vector<double> seen;
      double worst = 0;
      Pair x = p.solution(times.front());
      const auto s = ode::integrate_times(
          ode::Dopri5{}, p.f, x, times, tight,
          [&](double t, const Pair& now) {
            seen.push_back(t);
            worst = std::max(worst, problems::error(now, p.solution(t)));
          },
          ode::Output::cut);
      INFO(p.name << (reverse ? ", in reverse" : ""));
      CHECK(seen == std::vector<double>(times.begin() + 1, times.end()));
      CHECK(worst < 1e-8);
      CHECK(s.evaluations == 2 + 6 * (s.accepted + s.rejected));
    }
  }
}

TEST_CASE("integrate_times: dense output takes the steps of a plain solve however many times") {
  for (const problems::Problem& p : problems::all()) {
    for (const bool reverse : {false, true}) {
      const std::vector<double> times =
          reverse ? between(p.t1, p.t0, 500) : between(p.t0, p.t1, 500);
      INFO(p.name << (reverse ? ", in reverse" : ""));
      Pair plain = p.solution(times.front());
      const auto without =
          ode::integrate(ode::Dopri5{}, p.f, plain, times.front(), times.back(), tight);
      std::vector<double> seen;
      double worst = 0;
      Pair x = p.solution(times.front());
      const auto s =
          ode::integrate_times(ode::Dopri5{}, p.f, x, times, tight, [&](double t, const Pair& now) {
            seen.push_back(t);
            worst = std::max(worst, problems::error(now, p.solution(t)));
          });
      CHECK(seen == std::vector<double>(times.begin() + 1, times.end()));
      CHECK(worst < 3e-8);
      CHECK(s.evaluations == without.evaluations);
      CHECK(x == plain);
    }
  }
}

TEST_CASE("integrate_times: every adaptive method interpolates") {
  const problems::Problem& p = problems::all().front();
  for (const char* name : {"adaptive_heun", "fehlberg2", "bosh3", "tsit5", "dopri5", "dopri8"}) {
    INFO(name);
    ode::with_method(name, [&](auto method) {
      if constexpr (ode::ErrorStepper<decltype(method), Pair>) {
        Pair x = p.solution(p.t0);
        double worst = 0;
        ode::integrate_times(method, p.f, x, between(p.t0, p.t1, 100), {.rtol = 1e-6, .atol = 1e-6},
                             [&](double t, const Pair& now) {
                               worst = std::max(worst, problems::error(now, p.solution(t)));
                             });
        // fehlberg2's estimate is a 512th of a stage's difference: its own error is larger.
        const double end = problems::error(x, p.solution(p.t1));
        CHECK(end < (method.name == "fehlberg2" ? 5e-4 : 1e-5));
        CHECK(worst < 2 * end + 2e-5);
      } else {
        FAIL("not adaptive");
      }
    });
  }
}

TEST_CASE("integrate_times: step size and first stage carry over from time to time") {
  const auto f = [](const Pair& x, double) { return Pair{x[1], -x[0]}; };
  Pair plain = {0, 1};
  const auto without = ode::integrate(ode::Dopri5{}, f, plain, 0, 10, tight);
  Pair x = {0, 1};
  const auto with = ode::integrate_times(ode::Dopri5{}, f, x, {0, 0.001, 0.002, 5, 5.0001, 10},
                                         tight, ode::NoObserver{}, ode::Output::cut);
  // Each time costs one cut step at most, and the cut step does not throw away the size before it.
  CHECK(with.accepted + with.rejected <= without.accepted + without.rejected + 5);
  CHECK(with.evaluations == 2 + 6 * (with.accepted + with.rejected));
  CHECK(problems::error(x, plain) < 1e-8);
}

TEST_CASE("integrate_times: two times are the plain solve bit for bit") {
  const problems::Problem& p = problems::all()[1];
  Pair x = p.solution(p.t0);
  Pair y = x;
  ode::integrate(ode::Dopri5{}, p.f, x, p.t0, p.t1, tight);
  ode::integrate_times(ode::Dopri5{}, p.f, y, {p.t0, p.t1}, tight, ode::NoObserver{});
  CHECK(x == y);
}

TEST_CASE("integrate_times: no evaluation lies outside the times") {
  for (const bool reverse : {false, true}) {
    std::vector<double> times = {0.1, 0.2, 0.7, 0.70001};
    if (reverse) std::reverse(times.begin(), times.end());
    double low = 1;
    double high = 0;
    double x = 1;
    ode::integrate_times(
        ode::Dopri5{},
        [&](double y, double t) {
          low = std::min(low, t);
          high = std::max(high, t);
          return -y;
        },
        x, times, {.rtol = 1e-3, .atol = 1e-3, .first_step = 100}, ode::NoObserver{});
    CHECK(low == 0.1);
    CHECK(high == 0.70001);
  }
}

TEST_CASE("integrate_times: the observer may stop the solve") {
  double x = 1;
  int heard = 0;
  const auto s = ode::integrate_times(
      ode::Dopri5{}, [](double y, double) { return -y; }, x, {0, 0.5, 1, 2}, tight,
      [&](double t, double) {
        ++heard;
        return t < 1;
      });
  CHECK(heard == 2);
  CHECK(s.status == ode::Status::stopped);
  CHECK(x == Approx(std::exp(-1.0)).epsilon(1e-8));
}

TEST_CASE("integrate_times: bad times and options are refused with a remedy") {
  double x = 1;
  const auto with = [&x](std::vector<double> times, ode::AdaptiveOptions options) {
    return [&x, times, options] {
      ode::integrate_times(
          ode::Dopri5{}, [](double y, double) { return -y; }, x, times, options, ode::NoObserver{});
    };
  };
  require_error<OptionError>(with({}, tight), "at least two times");
  require_error<OptionError>(with({1}, tight), "at least two times");
  require_error<OptionError>(with({0, 1, 0.5}, tight), "rise or fall");
  require_error<OptionError>(with({0, 0, 1}, tight), "rise or fall");
  require_error<OptionError>(with({0, std::numeric_limits<double>::quiet_NaN()}, tight), "finite");
  require_error<OptionError>(with({0, 1}, {.rtol = -1}), "rtol is");
  CHECK(x == 1);
}

TEST_CASE("integrate_times: times that are the same but for roundings leave no step to make") {
  const double typed = 0.3;
  const double computed = 0.1 + 0.2;
  REQUIRE(typed != computed);
  const auto decay = [](double x, double) { return -x; };
  const auto end = [&](std::vector<double> times, std::vector<double> jumps, ode::Output output) {
    double x = 1;
    std::vector<double> seen;
    ode::AdaptiveOptions options{.rtol = 1e-8, .atol = 1e-10};
    options.jumps = std::move(jumps);
    const auto keep = [&](double t, double) { seen.push_back(t); };
    ode::integrate_times(ode::Dopri5{}, decay, x, times, options, keep, output);
    REQUIRE(seen == std::vector<double>(times.begin() + 1, times.end()));
    return x;
  };
  for (const auto output : {ode::Output::dense, ode::Output::cut}) {
    for (const double jump : {typed, computed}) {
      for (const double time : {typed, computed}) {
        REQUIRE(end({0, time, 1}, {jump}, output) == Approx(std::exp(-1)).epsilon(1e-6));
        REQUIRE(end({time, 1}, {jump}, output) == Approx(std::exp(time - 1)).epsilon(1e-6));
        REQUIRE(end({0, time}, {jump}, output) == Approx(std::exp(-time)).epsilon(1e-6));
        REQUIRE(end({1, time}, {jump}, output) == Approx(std::exp(1 - time)).epsilon(1e-6));
      }
    }
  }
}
