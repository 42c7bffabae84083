#include "flowmatch/solve/per_sample.hpp"

#include <limits>
#include <numeric>

#include "flowmatch/solve/odeint.hpp"
#include "tests/support/test.hpp"

namespace ode = flowmatch::ode;

namespace {

const ode::AdaptiveOptions fine{.rtol = 1e-8, .atol = 1e-8};

/// Decay towards the time, at a rate of its own for each sample: dx/dt = rate (t - x).
at::Tensor approach(const at::Tensor& x, const at::Tensor& t, const at::Tensor& rate) {
  return (t - x.flatten(1).transpose(0, 1)).mul(rate).transpose(0, 1).reshape(x.sizes());
}

/// x(t) from x(0) = 1: t - 1/r + (1 + 1/r) exp(-r t).
at::Tensor exact(const at::Tensor& rate, double t) {
  return t - 1 / rate + (1 + 1 / rate) * at::exp(-rate * t);
}

}  // namespace

TEST_CASE("per_sample: the norms are those of each sample by itself") {
  const at::Tensor v = doubles({0.3, -0.4, 5, 1}).view({2, 2});
  const at::Tensor a = doubles({1, -2, 0, 3}).view({2, 2});
  const at::Tensor b = doubles({-3, 0, -7, 1}).view({2, 2});
  const std::vector<double> dt = {0.5, 2};
  for (const auto kind : {ode::ErrorNorm::rms, ode::ErrorNorm::max}) {
    const ode::Tolerance tolerance{0.1, 0.2, kind};
    const std::vector<double> norms = ode::batch_traits<at::Tensor>::norms(v, dt, a, b, tolerance);
    REQUIRE(norms.size() == 2);
    for (std::int64_t i = 0; i < 2; ++i) {
      const auto place = static_cast<std::size_t>(i);
      const double alone = ode::state_traits<at::Tensor>::norm(v[i], a[i], b[i], tolerance);
      CHECK(norms[place] == Approx(dt[place] * alone).epsilon(1e-14));
    }
  }
}

TEST_CASE("per_sample: each sample keeps its condition while others leave the batch") {
  const at::Tensor rate = doubles({0.5, 200, 3, 20, 1});
  const std::vector<double> times = {0, 0.2, 1};
  std::vector<std::int64_t> sizes;
  const auto f = [&](const at::Tensor& x, const at::Tensor& t, const at::Tensor& r) {
    REQUIRE(t.sizes() == at::IntArrayRef{x.size(0)});
    REQUIRE(r.size(0) == x.size(0));
    REQUIRE(t.scalar_type() == torch::kDouble);
    sizes.push_back(x.size(0));
    return approach(x, t, r);
  };
  const auto result = fm::odeint_per_sample(f, on_device::ones({5, 2, 3}, torch::kDouble), times,
                                            rate, ode::Dopri5{}, fine);
  REQUIRE(result.x.sizes() == at::IntArrayRef{3, 5, 2, 3});
  for (std::size_t i = 0; i < 3; ++i) {
    const at::Tensor expected = exact(rate, times[i]).view({5, 1, 1}).expand({5, 2, 3});
    CHECK(close(result.x[static_cast<std::int64_t>(i)], expected, 1e-6, 1e-6));
  }
  CHECK(sizes.front() == 5);
  CHECK(sizes.back() == 1);  // the stiff one comes last
  CHECK(result.statistics.evaluations ==
        std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}));
}

TEST_CASE("per_sample: one per cent of stiff samples costs less than a third of shared steps") {
  at::Tensor rate = on_device::ones({200}, torch::kDouble);
  rate[17] = 300;
  rate[99] = 300;
  const at::Tensor x_0 = on_device::ones({200, 2}, torch::kDouble);
  const auto own = fm::odeint_per_sample(approach, x_0, {0, 1}, rate, ode::Dopri5{},
                                         {.rtol = 1e-5, .atol = 1e-5});
  const auto shared = fm::odeint(
      [&](const at::Tensor& x, double t) {
        return approach(x, on_device::full({200}, t, torch::kDouble), rate);
      },
      x_0, {0, 1}, ode::Dopri5{},
      {.adaptive = {.rtol = 1e-5, .atol = 1e-5, .norm = ode::ErrorNorm::max}});
  CHECK(close(own.x[1], shared.x[1], 1e-4, 1e-4));
  CHECK(3 * own.statistics.evaluations < 200 * shared.statistics.evaluations);
}

TEST_CASE("per_sample: samples of one number and float32 and a model that returns its input") {
  const auto growth = [](const at::Tensor& x, const at::Tensor& t) {
    CHECK(t.scalar_type() == torch::kFloat);
    return x;
  };
  const auto result = fm::odeint_per_sample(growth, on_device::tensor({1.0f, 2.0f, -3.0f}), {0, 1});
  REQUIRE(result.x.sizes() == at::IntArrayRef{2, 3});
  CHECK(close(result.x[1], on_device::tensor({1.0f, 2.0f, -3.0f}) * std::exp(1.0f), 1e-4, 1e-5));
}

TEST_CASE("per_sample: bad input is refused with a remedy") {
  const auto f = [](const at::Tensor& x, const at::Tensor&) { return x; };
  require_error<fm::ShapeError>(
      [&] {
        fm::odeint_per_sample(f, on_device::arange(3), {0, 1});
      },
      "floating tensor x_0 [B, …]");
  const auto longer = [](const at::Tensor& x, const at::Tensor&) { return at::cat({x, x}); };
  require_error<fm::ShapeError>(
      [&] {
        fm::odeint_per_sample(longer, on_device::ones({3}), {0, 1});
      },
      "the model's output");
  const auto conditional = [](const at::Tensor& x, const at::Tensor&, const at::Tensor&) {
    return x;
  };
  require_error<fm::ShapeError>(
      [&] {
        fm::odeint_per_sample(conditional, on_device::ones({3}), {0, 1}, on_device::ones({2}));
      },
      "one entry a sample");
  const auto bad = [](const at::Tensor& x, const at::Tensor& t) {
    return at::where(t > 0.5, std::numeric_limits<float>::quiet_NaN(), x);
  };
  require_error<fm::SolverError>(
      [&] {
        fm::odeint_per_sample(bad, on_device::ones({3}), {0, 1});
      },
      "in sample 0");
}

TEST_CASE("per_sample: a model that answers in memory of its own is solved as any other", "[cpu]") {
  std::vector<double> buffer(6);
  const at::Tensor rate = doubles({0.5, 20, 3});
  const auto lent = [&](const at::Tensor& x, const at::Tensor& t, const at::Tensor& r) {
    const at::Tensor v = approach(x, t, r).contiguous();
    std::copy_n(v.const_data_ptr<double>(), v.numel(), buffer.begin());
    return at::from_blob(buffer.data(), x.sizes(), at::kDouble);
  };
  const at::Tensor x = fm::odeint_per_sample(lent, on_device::ones({3, 2}, at::kDouble), {0, 1},
                                             rate, ode::Dopri5{}, fine)
                           .x[1];
  CHECK(close(x, exact(rate, 1).unsqueeze(1).expand({3, 2}), 1e-6, 1e-6));
}

TEST_CASE("per_sample: samples of no extent come through") {
  const auto f = [](const at::Tensor& x, const at::Tensor&) { return -x; };
  for (const auto kind : {ode::ErrorNorm::rms, ode::ErrorNorm::max}) {
    for (const auto& shape : std::vector<std::vector<std::int64_t>>{{3, 0}, {2, 4, 0}, {0, 2}}) {
      const auto r = fm::odeint_per_sample(f, on_device::ones(shape), {0, 0.5, 1}, {},
                                           ode::Dopri5{}, {.norm = kind});
      CHECK(r.x.size(0) == 3);
      CHECK(r.x[2].sizes() == at::IntArrayRef(shape));
    }
  }
}
