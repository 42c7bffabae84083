#include "flowmatch/sample/unipc.hpp"

#include <cmath>

#include "flowmatch/sample/dpm_solver.hpp"
#include "flowmatch/sample/sampler.hpp"
#include "tests/support/gaussian_flow.hpp"
#include "tests/support/test.hpp"

namespace {

/// The states after each step of two numbers by a velocity that is no straight line.
template <int Order>
std::vector<at::Tensor> by_unipc() {
  const auto velocity = [](const at::Tensor& x, const at::Tensor& t) {
    return at::sin(3 * x) + (t * t).unsqueeze(1) - 0.5 * x;
  };
  std::vector<at::Tensor> states;
  fm::SamplerOptions options;
  options.observer = [&](const fm::SampleStep& s) { return states.push_back(s.x.clone()), true; };
  fm::Sampler(velocity, fm::UniPC<Order>{},
              fm::TimeGrid::nodes({0.1, 0.25, 0.4, 0.6, 0.75, 0.9, 1}), options)
      .sample_from(doubles({1.5, -0.3}).unsqueeze(0));
  return states;
}

/// How far samples of the Gaussian flow end from where it takes them.
template <class Method>
double off(std::int64_t steps) {
  fm::Rng rng(1, test_device()), fresh(2, test_device());
  const at::Tensor x_0 = rng.normal({1000, 1}, torch::kDouble);
  fm::Sampler sampler(gaussian_flow::flow, Method(), fm::TimeGrid::uniform(steps));
  const at::Tensor end = gaussian_flow::mu + gaussian_flow::s * x_0;
  return (sampler.sample_from(x_0) - end).abs().mean().template item<double>();
}

}  // namespace

TEST_CASE("unipc: its steps are those of diffusers 0.42.1") {
  // UniPCMultistepScheduler, bh2, of the noise levels 0.9, 0.75, …, 0.1, 0, in float64.
  const std::vector<double> second = {1.24237048235,   -0.393499036444, 1.134669412013,
                                      -0.497439622983, 1.069583549161,  -0.602888936975,
                                      1.062554395586,  -0.621644959638, 1.094497159075,
                                      -0.594644201513, 1.106629990372,  -0.581649223196};
  CHECK(close(at::cat(by_unipc<2>()).flatten(), doubles(second), 0, 1e-11));
  // Its last steps but one are of order 2, with `lower_order_final`.
  const std::vector<double> third = {1.24237048235,   -0.393499036444, 1.134669412013,
                                     -0.497439622983, 1.084158459516,  -0.592042395262,
                                     1.041749181495,  -0.603447181514};
  CHECK(close(at::cat(by_unipc<3>()).slice(0, 0, 4).flatten(), doubles(third), 0, 1e-11));
}

TEST_CASE("unipc: it converges, nearer than DPM-Solver with as many evaluations") {
  CHECK(off<fm::UniPC<2>>(160) / off<fm::UniPC<2>>(320) == Approx(4).epsilon(0.1));
  CHECK(off<fm::UniPC<3>>(160) / off<fm::UniPC<3>>(320) > 3.8);  // the first step is of order 1
  fm::Rng rng(1, test_device()), same(1, test_device());
  const at::Tensor x_0 = rng.normal({1000, 1}, torch::kDouble);
  const at::Tensor end = gaussian_flow::mu + gaussian_flow::s * x_0;
  fm::Sampler dpm(gaussian_flow::flow, fm::DpmSolver<2>(0), fm::TimeGrid::uniform(20));
  CHECK(off<fm::UniPC<2>>(20) <
        0.8 * (dpm.sample_from(x_0, same) - end).abs().mean().item<double>());
}

TEST_CASE("unipc: it goes forward within [0, 1] and a workspace serves one solve after another") {
  const auto solve = [](const fm::TimeGrid& grid) {
    return fm::Sampler(gaussian_flow::flow, fm::UniPC<3>{}, grid)
        .sample_from(on_device::zeros({2, 1}, torch::kDouble));
  };
  require_error<fm::OptionError>([&] { solve(fm::TimeGrid::uniform(3, 1, 0)); }, "from noise at 0");
  const double zero = 0.3 - 3 * 0.1, one = 0.1 + 0.2 + 0.7;  // but for roundings
  CHECK(solve(fm::TimeGrid::nodes({zero, 0.5, one})).isfinite().all().item<bool>());
  CHECK(solve(fm::TimeGrid::uniform(1)).isfinite().all().item<bool>());
  fm::ode::Workspace<double> used;
  const auto v = [](double x, double) { return 1 - x; };
  std::vector<double> ends;
  const fm::TimeGrid grid = fm::TimeGrid::uniform(6);
  for (int i = 0; i < 2; ++i) {
    double x = 0.3;
    for (const auto& step : grid.steps()) fm::UniPC<3>{}.step(v, used, x, step.t, step.dt);
    ends.push_back(x);
  }
  CHECK(ends[0] == ends[1]);
}
