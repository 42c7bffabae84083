#include "flowmatch/sample/ancestral.hpp"

#include <limits>

#include "flowmatch/sample/sampler.hpp"
#include "tests/support/gaussian_flow.hpp"
#include "tests/support/test.hpp"

namespace {

using gaussian_flow::flow;

/// Samples of the Gaussian flow from the same noise.
at::Tensor drawn(double eta, std::int64_t steps, std::uint64_t seed = 3, std::int64_t n = 20000) {
  fm::Rng rng(1);
  const at::Tensor x_0 = rng.normal({n, 1}, torch::kDouble);
  return fm::Sampler(flow, fm::AncestralEuler(fm::Rng(seed), eta), fm::TimeGrid::uniform(steps))
      .sample_from(x_0);
}

}  // namespace

TEST_CASE("ancestral: without fresh noise it is Euler's method") {
  fm::Rng rng(1);
  const at::Tensor x_0 = rng.normal({50, 1}, torch::kDouble);
  const at::Tensor euler =
      fm::Sampler(flow, fm::ode::Euler{}, fm::TimeGrid::uniform(7)).sample_from(x_0);
  CHECK(close(drawn(0, 7, 3, 50), euler, 0, 1e-12));
}

TEST_CASE("ancestral: with fresh noise samples have the data's distribution") {
  for (const double eta : {0.5, 1.0}) {
    const at::Tensor x = drawn(eta, 200);
    CHECK(x.mean().item<double>() == Approx(gaussian_flow::mu).margin(0.02));
    CHECK(x.std().item<double>() == Approx(gaussian_flow::s).margin(0.02));
    CHECK_FALSE(close(x, drawn(0, 200), 0, 0.1));
  }
}

TEST_CASE("ancestral: the last step adds no noise, and the seed decides the rest") {
  CHECK(at::equal(drawn(1, 1, 3), drawn(1, 1, 4)));
  CHECK(at::equal(drawn(1, 5, 3), drawn(1, 5, 3)));
  CHECK_FALSE(at::equal(drawn(1, 5, 3), drawn(1, 5, 4)));
}

TEST_CASE("ancestral: options and directions that cannot be are an OptionError") {
  for (const double eta : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()})
    require_error<fm::OptionError>([&] { fm::AncestralEuler(fm::Rng(1), eta); }, "choose one in");
  fm::Sampler back(flow, fm::AncestralEuler(fm::Rng(1)), fm::TimeGrid::uniform(3, 1, 0));
  require_error<fm::OptionError>(
      [&] {
        back.sample_from(torch::zeros({2, 1}, torch::kDouble));
      },
      "from noise at 0 to data at 1");
}
