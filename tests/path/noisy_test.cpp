#include "flowmatch/path/noisy.hpp"

#include <limits>

#include "tests/path/torchcfm/paths.hpp"

TEST_CASE("noisy: x_t and dx_t are those of torchcfm's I-CFM, variance-preserving and target") {
  const auto like = [](const fm::PathSample& sample, const at::Tensor& x_t, const at::Tensor& u_t) {
    CHECK(close(sample.x_t, x_t, 1e-12, 1e-12));
    CHECK(close(sample.dx_t, u_t, 1e-9, 1e-9));
  };
  CHECK(for_each_of_torchcfm(
            "icfm", [&](const auto& x_0, const auto& x_1, const auto& t, const auto& epsilon,
                        const auto& x_t, const auto& u_t, double sigma) {
              like(fm::NoisyPath(sigma).sample(x_0, x_1, t, epsilon), x_t, u_t);
            }) == 16);
  CHECK(for_each_of_torchcfm(
            "vp", [&](const auto& x_0, const auto& x_1, const auto& t, const auto& epsilon,
                      const auto& x_t, const auto& u_t, double sigma) {
              like(fm::NoisyPath(fm::CosinePath{}, sigma).sample(x_0, x_1, t, epsilon), x_t, u_t);
            }) == 16);
  // There x_0 is the noise itself.
  CHECK(for_each_of_torchcfm(
            "target", [&](const auto&, const auto& x_1, const auto& t, const auto& epsilon,
                          const auto& x_t, const auto& u_t, double sigma) {
              like(fm::TargetPath(fm::TargetScheduler(sigma)).sample(epsilon, x_1, t), x_t, u_t);
            }) == 16);
}

TEST_CASE("noisy: the noise is drawn from the Rng and comes with the sample") {
  CHECK(fm::NoisyPath(0.3).sigma() == 0.3);
  static_assert(fm::StochasticPath<fm::NoisyPath<>> && !fm::ProbPath<fm::NoisyPath<>>);
  const at::Tensor x_0 = on_device::zeros({20000, 2}), x_1 = on_device::ones({20000, 2});
  const at::Tensor t = on_device::full({20000}, 0.25);
  fm::Rng rng(1, test_device()), same(1, test_device());
  const fm::NoisyPathSample sample = fm::NoisyPath(0.5).sample(x_0, x_1, t, rng);
  CHECK(at::equal(sample.epsilon, same.normal({20000, 2})));
  CHECK(close(sample.x_t, 0.25 + 0.5 * sample.epsilon, 0, 1e-6));
  CHECK(at::equal(sample.sigma_t, on_device::full({20000}, 0.5)));
  CHECK(at::equal(sample.dx_t, x_1));
  CHECK(sample.x_t.std().item<double>() == Approx(0.5).epsilon(0.02));
  CHECK(sample.x_t.mean().item<double>() == Approx(0.25).margin(0.02));
}

TEST_CASE("noisy: samples keep the dtype of the data and times theirs") {
  const at::Tensor t = on_device::tensor({0.25F, 1.0F});
  const auto x = on_device::ones({2, 3}, torch::kBFloat16);
  fm::Rng rng(2, test_device());
  const fm::NoisyPathSample sample = fm::NoisyPath(0.5).sample(x, x, t, rng);
  CHECK(sample.x_t.scalar_type() == torch::kBFloat16);
  CHECK(sample.epsilon.scalar_type() == torch::kBFloat16);
  CHECK(sample.sigma_t.scalar_type() == torch::kFloat);
}

TEST_CASE("noisy: what cannot be is refused") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double sigma : {-0.1, nan, std::numeric_limits<double>::infinity()}) {
    require_error<fm::OptionError>([&] { fm::NoisyPath{sigma}; }, "at least 0");
    require_error<fm::OptionError>([&] { fm::TargetScheduler{sigma}; }, "at least 0");
  }
  const at::Tensor x = on_device::zeros({2, 3}), t = on_device::zeros({2});
  fm::Rng rng(3, test_device());
  const fm::NoisyPath path(0.5);
  require_error<fm::ShapeError>([&] { path.sample(x, x[0], t, rng); }, "x_1");
  require_error<fm::ShapeError>([&] { path.sample(x, x, t[0], rng); }, "time");
  require_error<fm::ShapeError>([&] { path.sample(x, x, t, x[0]); }, "epsilon");
  const at::Tensor whole = on_device::zeros({2, 3}, torch::kLong);
  require_error<fm::ShapeError>([&] { path.sample(whole, whole, t, rng); }, "integer");
}
