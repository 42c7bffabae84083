#include "flowmatch/sample/dpm_solver_2s.hpp"

#include <cmath>

#include "flowmatch/sample/sampler.hpp"
#include "tests/support/gaussian_flow.hpp"
#include "tests/support/test.hpp"

TEST_CASE("dpm_solver_2s: a step is the published formula") {
  // Of one number, in the terms of Lu et al. 2022, algorithm 1, with alpha = t and sigma = 1 - t.
  const double t = 0.3, s = 0.55, x = 1.7;
  const auto v = [](double at, double time) { return std::sin(at) - time; };
  const auto data = [&](double at, double time) { return at + (1 - time) * v(at, time); };
  const auto lambda = [](double time) { return std::log(time / (1 - time)); };
  const double h = lambda(s) - lambda(t), m = 1 / (1 + std::exp(-lambda(t) - h / 2));
  const double u = (1 - m) / (1 - t) * x - m * std::expm1(-h / 2) * data(x, t);
  const double expected = (1 - s) / (1 - t) * x - s * std::expm1(-h) * data(u, m);
  fm::ode::Workspace<double> w;
  double state = x;
  fm::DpmSolver2S{}.step(v, w, state, t, s - t);
  CHECK(state == Approx(expected).epsilon(1e-12));
  CHECK(w.evaluations == 2);
}

TEST_CASE("dpm_solver_2s: it converges with order 2, and its ends take one evaluation") {
  fm::Rng rng(1, test_device());
  const at::Tensor x_0 = rng.normal({1000, 1}, torch::kDouble);
  const at::Tensor end = gaussian_flow::mu + gaussian_flow::s * x_0;
  const auto off = [&](std::int64_t steps) {
    fm::Sampler sampler(gaussian_flow::flow, fm::DpmSolver2S{}, fm::TimeGrid::uniform(steps));
    const fm::SampleResult result = sampler.solve(x_0);
    CHECK(result.statistics.evaluations == 2 * steps - 2);
    return (result.x - end).abs().mean().item<double>();
  };
  CHECK(off(80) / off(160) == Approx(4).epsilon(0.2));
  fm::Sampler back(gaussian_flow::flow, fm::DpmSolver2S{}, fm::TimeGrid::uniform(3, 1, 0));
  require_error<fm::OptionError>([&] { back.sample_from(x_0); }, "from noise at 0");
}
