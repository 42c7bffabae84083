#include "flowmatch/path/bridge.hpp"

#include <limits>

#include "tests/path/torchcfm/paths.hpp"

TEST_CASE("bridge: x_t and dx_t are those of torchcfm's Schrödinger bridge") {
  CHECK(for_each_of_torchcfm(
            "bridge", [](const auto& x_0, const auto& x_1, const auto& t, const auto& epsilon,
                         const auto& x_t, const auto& u_t, double sigma) {
              const auto sample = fm::BridgePath(sigma).sample(x_0, x_1, t, epsilon);
              CHECK(close(sample.x_t, x_t, 1e-12, 1e-12));
              CHECK(close(sample.dx_t, u_t, 1e-6, 1e-6));  // theirs has 1e-8 in a denominator
            }) == 8);
}

TEST_CASE("bridge: dx_t is the derivative of x_t along fixed noise") {
  torch::manual_seed(1);
  const at::Tensor x_0 = on_device::randn({5, 2}, torch::kDouble), x_1 = torch::randn_like(x_0);
  const at::Tensor epsilon = torch::randn_like(x_0), t = doubles({0.02, 0.3, 0.5, 0.7, 0.98});
  const fm::BridgePath path(0.8);
  const double h = 1e-6;
  const at::Tensor difference =
      path.sample(x_0, x_1, t + h, epsilon).x_t - path.sample(x_0, x_1, t - h, epsilon).x_t;
  CHECK(close(path.sample(x_0, x_1, t, epsilon).dx_t, difference / (2 * h), 1e-6, 1e-6));
}

TEST_CASE("bridge: it begins at x_0, ends at x_1, and is finite there") {
  fm::Rng rng(1, test_device());
  for (const auto dtype : {torch::kFloat, torch::kDouble}) {
    const at::Tensor x_0 = on_device::randn({3, 2}, dtype), x_1 = on_device::randn({3, 2}, dtype);
    // Also a grid's end that went past it by a rounding.
    const at::Tensor t = on_device::tensor({0.0, 1.0, 1 + 1e-12}, torch::kDouble).to(dtype);
    const fm::NoisyPathSample sample = fm::BridgePath(2).sample(x_0, x_1, t, rng);
    CHECK(at::equal(sample.x_t[0], x_0[0]));
    CHECK(close(sample.x_t.slice(0, 1), x_1.slice(0, 1), 1e-6, 1e-6));
    CHECK(sample.dx_t.isfinite().all().item<bool>());
    CHECK(sample.sigma_t.scalar_type() == dtype);
  }
}

TEST_CASE("bridge: the spread of x_t is sigma sqrt(t (1-t))") {
  fm::Rng rng(2, test_device());
  const at::Tensor x = on_device::zeros({50000, 1}), t = on_device::full({50000}, 0.2);
  const fm::NoisyPathSample sample = fm::BridgePath(1.5).sample(x, x, t, rng);
  CHECK(sample.x_t.std().item<double>() == Approx(1.5 * 0.4).epsilon(0.01));
  CHECK(close(sample.x_t, sample.epsilon * sample.sigma_t.unsqueeze(1), 1e-6, 1e-6));
}

TEST_CASE("bridge: without noise it is refused") {
  for (const double sigma : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()})
    require_error<fm::OptionError>([&] { fm::BridgePath{sigma}; }, "LinearPath for none");
}
