#include "flowmatch/model/inverse.hpp"

#include <cmath>

#include "flowmatch/sample/sampler.hpp"
#include "tests/support/gaussian_flow.hpp"
#include "tests/support/networks.hpp"

namespace {

/// The velocity of standard normal data, along the straight path.
const auto standard = [](const at::Tensor& x, const at::Tensor& time) {
  const at::Tensor t = fm::expand_time(time, x);
  return (2 * t - 1) / ((1 - t).square() + t.square()) * x;
};

}  // namespace

TEST_CASE("inverse: what is known ends exactly there, and lies on its path before") {
  const at::Tensor known = doubles({0.5, -1, 2}), mask = on_device::tensor({true, false, true});
  fm::Rng rng(1, test_device());
  const at::Tensor x_0 = rng.normal({40, 3}, at::kDouble);
  const auto check = [&](const auto& method, const auto& grid) {
    fm::Sampler sampler(fm::Inpainting(gaussian_flow::flow, known, mask), method, grid);
    const at::Tensor points = sampler.trajectory(x_0);
    const at::Tensor end = points[-1];
    CHECK(close(end.select(1, 0), on_device::full({40}, 0.5, at::kDouble), 0, 1e-7));
    CHECK(close(end.select(1, 2), on_device::full({40}, 2.0, at::kDouble), 0, 1e-7));
    // Halfway of 10 steps the known ones lie halfway.
    CHECK(close(points[5].select(1, 2), (x_0.select(1, 2) + 2) / 2, 0, 1e-9));
    // What is not known is as the model alone makes it.
    fm::Sampler alone(gaussian_flow::flow, method, grid);
    CHECK(close(points[5].select(1, 1), alone.trajectory(x_0)[5].select(1, 1), 0, 1e-12));
  };
  check(fm::ode::Euler{}, fm::TimeGrid::uniform(10));
  check(fm::ode::Heun2{}, fm::TimeGrid::uniform(10));
}

TEST_CASE("inverse: samples of normal data given a measurement have its posterior") {
  // x ~ N(0, I) in the plane, y = x_1 + x_2 / 2 + noise: known in closed form.
  const double noise = 0.3, y = 1.2;
  const at::Tensor a = doubles({1, 0.5});
  const auto measure = [&](const at::Tensor& x) { return (x * a).sum(1, true); };
  fm::LinearInverse model(standard, measure, doubles({y}).view({1, 1}),
                          {.noise = noise, .earliest = 1e-3});
  fm::Rng rng(2, test_device());
  const at::Tensor x = fm::Sampler(model, fm::ode::Midpoint{}, fm::TimeGrid::uniform(100))
                           .sample_from(rng.normal({20000, 2}, at::kDouble));
  const double gain = 1 / (1.25 + noise * noise);
  const at::Tensor mean = gain * y * a;
  const at::Tensor covariance = on_device::eye(2, at::kDouble) - gain * a.outer(a);
  CHECK(close(x.mean(0), mean, 0, 0.03));
  CHECK(close(x.t().cov(), covariance, 0, 0.04));
}

TEST_CASE("inverse: with conditions, modules and masks as the measurement") {
  torch::manual_seed(3);
  networks::Conditional net;
  const auto left_half = [](const at::Tensor& x) { return x.slice(3, 0, 2); };
  fm::LinearInverse model(net, left_half, on_device::zeros({1, 1, 4, 2}));
  static_assert(fm::VelocityModel<decltype(model), at::Tensor>);
  fm::Rng rng(4, test_device());
  const at::Tensor x = fm::Sampler(model, fm::ode::Euler{}, fm::TimeGrid::uniform(4))
                           .sample({3, 1, 4, 4}, rng, on_device::tensor({1, 2, 3}));
  CHECK(x.isfinite().all().item<bool>());
  CHECK_FALSE(x.requires_grad());
  CHECK(net->is_training());
  for (const at::Tensor& p : net->parameters()) CHECK_FALSE(p.grad().defined());
}

TEST_CASE("inverse: on the CPU the measurement is asked no longer than it tells something",
          "[cpu]") {
  fm::Rng rng(5);
  const at::Tensor x = rng.normal({4, 6}, at::kDouble), t = torch::full({4}, 0.5, at::kDouble);
  int asked = 0;
  const auto count = [&](const at::Tensor& weights, std::int64_t iterations) {
    asked = 0;
    const auto weighted = [&](const at::Tensor& x_) { return ++asked, x_ * weights; };
    fm::LinearInverse model(standard, weighted, torch::ones({1, 6}, at::kDouble),
                            {.iterations = iterations});
    return model(x, t);
  };
  // Parts take one step, but for rounding; six weights take six.
  const at::Tensor part = torch::tensor({1, 1, 0, 0, 1, 0}, at::kDouble);
  const at::Tensor v = count(part, 20);
  CHECK(asked <= 5);
  CHECK(close(v, count(part, 2), 1e-12, 1e-12));
  count(torch::arange(1, 7).to(at::kDouble), 20);
  CHECK(asked >= 7);
  CHECK(asked < 21);
}

TEST_CASE("inverse: what cannot be is refused") {
  const at::Tensor known = on_device::zeros({1, 3});
  require_error<fm::ShapeError>(
      [&] {
        fm::Inpainting(standard, known, on_device::zeros({1, 2}, at::kBool));
      },
      "the mask");
  require_error<fm::ShapeError>(
      [&] {
        fm::Inpainting(standard, known, on_device::ones({1, 3}));
      },
      "truth values");
  fm::Inpainting other(standard, known, on_device::ones({1, 3}, at::kBool));
  require_error<fm::ShapeError>(
      [&] {
        other(on_device::zeros({2, 4}), on_device::zeros({2}));
      },
      "a sample");
  const auto first = [](const at::Tensor& x) { return x.slice(1, 0, 1); };
  require_error<fm::OptionError>([&] { fm::LinearInverse(standard, first, known, {.noise = 0}); },
                                 "noise above 0");
  require_error<fm::OptionError>(
      [&] { fm::LinearInverse(standard, first, known, {.iterations = 0}); }, "at least 1");
  fm::LinearInverse wrong(standard, first, known);
  require_error<fm::ShapeError>(
      [&] {
        wrong(on_device::zeros({2, 4}), on_device::zeros({2}));
      },
      "the measurement y");
}
