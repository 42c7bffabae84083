#include "flowmatch/ode/batch.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "flowmatch/ode/integrate.hpp"
#include "tests/support/test_std.hpp"

namespace ode = flowmatch::ode;
using flowmatch::OptionError;
using flowmatch::SolverError;
using Batch = std::vector<std::array<double, 2>>;

namespace {

/// Oscillators; sample i has the frequency of its place.
struct Oscillators {
  std::vector<double> frequency;
  double low = 1e9, high = -1e9;
  Batch operator()(const Batch& x, std::span<const double> t,
                   std::span<const std::int64_t> samples) {
    Batch d;
    for (std::size_t b = 0; b < x.size(); ++b) {
      const double w = frequency[static_cast<std::size_t>(samples[b])];
      d.push_back({w * x[b][1], -w * x[b][0]});
      low = std::min(low, t[b]);
      high = std::max(high, t[b]);
    }
    return d;
  }
};

const auto ignore = [](std::size_t, std::span<const std::int64_t>, const Batch&) {};
const ode::AdaptiveOptions tight{.rtol = 1e-8, .atol = 1e-8};

}  // namespace

TEST_CASE("batch: each sample is solved to the tolerance with steps of its own") {
  static_assert(ode::BatchState<Batch> && !ode::BatchState<double>);
  for (const bool reverse : {false, true}) {
    const double t0 = reverse ? 2 : 0;
    const double t1 = reverse ? 0 : 2;
    Oscillators f{{1, 30, 5, 0.1}};
    Batch x;
    for (const double w : f.frequency) x.push_back({std::sin(w * t0), std::cos(w * t0)});
    const auto s = ode::integrate_batch(ode::Dopri5{}, f, x, {t0, t1}, tight, ignore);
    for (std::size_t i = 0; i < x.size(); ++i) {
      CHECK(x[i][0] == Approx(std::sin(f.frequency[i] * t1)).margin(1e-6));
      CHECK(x[i][1] == Approx(std::cos(f.frequency[i] * t1)).margin(1e-6));
    }
    CHECK(f.low == 0);
    CHECK(f.high == 2);
    CHECK(s.accepted[1] > 4 * s.accepted[2]);
    CHECK(s.accepted[2] > 2 * s.accepted[0]);
    std::int64_t tried = 0;
    for (std::size_t i = 0; i < 4; ++i) tried += 6 * (s.accepted[i] + s.rejected[i]) + 2;
    CHECK(s.evaluations == tried);  // nobody pays for another's steps
    CHECK(s.calls == 2 + 6 * (s.accepted[1] + s.rejected[1]));
  }
}

TEST_CASE("batch: a sample takes the steps that it would take alone") {
  Oscillators f{{3, 17}};
  Batch both = {{0, 1}, {0, 1}};
  const auto s = ode::integrate_batch(ode::Tsit5{}, f, both, {0, 2}, tight, ignore);
  for (std::size_t i = 0; i < 2; ++i) {
    Oscillators g{{f.frequency[i]}};
    Batch alone = {{0, 1}};
    const auto a = ode::integrate_batch(ode::Tsit5{}, g, alone, {0, 2}, tight, ignore);
    CHECK(alone[0] == both[i]);
    CHECK(a.accepted[0] == s.accepted[i]);
    CHECK(a.rejected[0] == s.rejected[i]);
  }
}

TEST_CASE("batch: one stiff sample in a hundred does not slow the others down") {
  Oscillators f{std::vector<double>(100, 1.0)};
  f.frequency[50] = 60;
  Batch x(100, {0, 1});
  const auto own = ode::integrate_batch(ode::Dopri5{}, f, x, {0, 2}, tight, ignore);
  Batch y(100, {0, 1});
  const auto shared = [&](const Batch& at, double t) {
    const std::vector<double> times(at.size(), t);
    std::vector<std::int64_t> all(at.size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int64_t>(i);
    return f(at, times, all);
  };
  // The shared solve works on the samples side by side as one state.
  std::vector<double> flat(200);
  for (std::size_t i = 0; i < 100; ++i) flat[2 * i + 1] = 1;
  const auto s =
      ode::integrate(ode::Dopri5{},
                     [&](const std::vector<double>& at, double t) {
                       Batch batch(100);
                       for (std::size_t i = 0; i < 100; ++i) batch[i] = {at[2 * i], at[2 * i + 1]};
                       const Batch d = shared(batch, t);
                       std::vector<double> out;
                       for (const auto& pair : d) out.insert(out.end(), pair.begin(), pair.end());
                       return out;
                     },
                     flat, 0, 2, {.rtol = 1e-8, .atol = 1e-8, .norm = ode::ErrorNorm::max});
  CHECK(3 * own.evaluations < 100 * s.evaluations);
  CHECK(x[50][0] == Approx(std::sin(120)).margin(1e-5));
}

TEST_CASE("batch: output at requested times comes with the places of its samples") {
  Oscillators f{{1, 30, 5}};
  Batch x(3, {0, 1});
  const std::vector<double> times = {0, 0.3, 1.1, 2};
  std::vector<Batch> seen(4, Batch(3));
  ode::integrate_batch(ode::Dopri5{}, f, x, times, tight,
                       [&](std::size_t i, std::span<const std::int64_t> places, const Batch& at) {
                         for (std::size_t b = 0; b < places.size(); ++b)
                           seen[i][static_cast<std::size_t>(places[b])] = at[b];
                       });
  for (std::size_t i = 1; i < 4; ++i) {
    for (std::size_t b = 0; b < 3; ++b)
      CHECK(seen[i][b][0] == Approx(std::sin(f.frequency[b] * times[i])).margin(1e-6));
  }
  CHECK(seen[3] == x);
}

TEST_CASE("batch: errors name the sample") {
  Batch x(3, {0, 1});
  const auto bad = [](const Batch& at, std::span<const double> t,
                      std::span<const std::int64_t> samples) {
    Batch d = at;
    for (std::size_t b = 0; b < at.size(); ++b) {
      if (samples[b] == 1 && t[b] > 0.5) d[b][0] = std::numeric_limits<double>::quiet_NaN();
    }
    return d;
  };
  require_error<SolverError>(
      [&] {
        ode::integrate_batch(ode::Dopri5{}, bad, x, {0, 1}, tight, ignore);
      },
      "NaN or infinite; check the model and its input in sample 1");
  Oscillators f{{1, 1, 50}};
  Batch y(3, {0, 1});
  require_error<SolverError>(
      [&] {
        ode::integrate_batch(ode::Dopri5{}, f, y, {0, 1},
                             {.rtol = 1e-8, .atol = 1e-8, .max_steps = 20}, ignore);
      },
      "is used up; raise max_steps or the tolerances in sample 2");
  require_error<OptionError>(
      [&] {
        ode::integrate_batch(ode::Dopri5{}, f, y, {0, 1}, {.jumps = {0.5}}, ignore);
      },
      "shared steps");
  require_error<OptionError>([&] { ode::integrate_batch(ode::Dopri5{}, f, y, {0}, tight, ignore); },
                             "at least two");
  Batch none;
  CHECK(ode::integrate_batch(ode::Dopri5{}, f, none, {0, 1}, tight, ignore).calls == 0);
}

TEST_CASE("batch: a last step that is rejected while another sample arrives is made again") {
  Oscillators f{{0, 30}};
  Batch x(2, {0, 1});
  std::vector<int> arrivals(2);
  const auto s = ode::integrate_batch(
      ode::Dopri5{}, f, x, {0, 2}, {.rtol = 1e-8, .atol = 1e-8, .first_step = 2},
      [&](std::size_t, std::span<const std::int64_t> places, const Batch&) {
        for (const std::int64_t place : places) ++arrivals[static_cast<std::size_t>(place)];
      });
  CHECK(s.accepted[0] == 1);
  CHECK(s.rejected[1] > 0);
  CHECK(arrivals == std::vector<int>{1, 1});
  CHECK(x[1][0] == Approx(std::sin(60)).margin(1e-5));
}

TEST_CASE("batch: more or fewer slopes than samples are refused") {
  for (const std::size_t returned : {std::size_t{1}, std::size_t{5}}) {
    Batch x(4, {1.0, 1.0});
    const auto f = [&](const Batch&, std::span<const double>, std::span<const std::int64_t>) {
      return Batch(returned, {1.0, 1.0});
    };
    require_error<flowmatch::ShapeError>(
        [&] {
          ode::integrate_batch(ode::Dopri5{}, f, x, {0, 1}, {}, ignore);
        },
        "was given 4 samples and returned " + std::to_string(returned));
  }
}
