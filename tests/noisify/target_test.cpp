#include "flowmatch/noisify/target.hpp"

#include <limits>

#include "flowmatch/path/affine.hpp"
#include "tests/support/test.hpp"

namespace {

template <class Path>
fm::PathSample a_sample(const Path& path) {
  torch::manual_seed(3);
  return path.sample(on_device::randn({4, 3}, torch::kDouble),
                     on_device::randn({4, 3}, torch::kDouble), doubles({0.1, 0.4, 0.6, 0.8}));
}

struct RandomPath {
  fm::PathSample sample(const at::Tensor&, const at::Tensor&, const at::Tensor&, fm::Rng&) const;
};

}  // namespace

TEST_CASE("target: velocity and data and noise are what the path says") {
  const fm::CosinePath path;
  const fm::PathSample sample = a_sample(path);
  CHECK(fm::VelocityTarget{}(path, sample).is_same(sample.dx_t));
  CHECK(fm::X1Target{}(path, sample).is_same(sample.x_1));
  CHECK(fm::EpsilonTarget{}(path, sample).is_same(sample.x_0));
}

TEST_CASE("target: a finite difference is the change over the step") {
  const fm::LinearPath straight;
  const fm::PathSample sample = a_sample(straight);
  CHECK(fm::FiniteDifferenceTarget().step() == 0.01);
  CHECK(close(fm::FiniteDifferenceTarget()(straight, sample), 0.01 * sample.dx_t, 1e-9, 1e-12));
  CHECK(close(fm::FiniteDifferenceTarget(0.2)(straight, sample), 0.2 * sample.dx_t));
  const fm::CosinePath curved;
  const fm::PathSample bent = a_sample(curved);
  const at::Tensor change = curved.sample(bent.x_0, bent.x_1, bent.t + 0.1).x_t - bent.x_t;
  CHECK(close(fm::FiniteDifferenceTarget(0.1)(curved, bent), change));
  CHECK(close(fm::FiniteDifferenceTarget(1e-6)(curved, bent) / 1e-6, bent.dx_t, 1e-4, 1e-4));
}

TEST_CASE(
    "target: a finite difference in half precision is that of the numbers, not of roundings") {
  const fm::LinearPath path;
  const at::Tensor x_0 = on_device::randn({64, 8}).to(torch::kBFloat16);
  const at::Tensor x_1 = on_device::randn({64, 8}).to(torch::kBFloat16);
  const at::Tensor t = on_device::rand({64});
  const at::Tensor change = fm::FiniteDifferenceTarget()(path, path.sample(x_0, x_1, t));
  CHECK(change.scalar_type() == torch::kBFloat16);
  const at::Tensor exact = 0.01 * (x_1.to(torch::kDouble) - x_0.to(torch::kDouble));
  CHECK(close(change.to(torch::kDouble), exact, 1.0 / 128, 1e-6));
}

TEST_CASE("target: steps out of range are an OptionError") {
  for (const double h : {0.0, -0.1, 1.5, std::numeric_limits<double>::quiet_NaN()}) {
    require_error<fm::OptionError>([&] { fm::FiniteDifferenceTarget target(h); }, "in (0, 1]");
  }
}

TEST_CASE("target: the concept depends on the path where the target does") {
  static_assert(fm::Target<fm::VelocityTarget, fm::LinearPath>);
  static_assert(fm::Target<fm::X1Target, RandomPath> && fm::Target<fm::EpsilonTarget, RandomPath>);
  static_assert(fm::Target<fm::FiniteDifferenceTarget, fm::LinearPath>);
  static_assert(!fm::Target<fm::FiniteDifferenceTarget, RandomPath>);
  static_assert(!fm::Target<int, fm::LinearPath>);
  auto twice = [](const fm::LinearPath&, const fm::PathSample& s) { return 2 * s.dx_t; };
  static_assert(fm::Target<decltype(twice), fm::LinearPath>);
  static_assert(!fm::Target<decltype(twice), fm::CosinePath>);
  const fm::LinearPath path;
  CHECK(at::equal(twice(path, a_sample(path)), 2 * a_sample(path).dx_t));
}
