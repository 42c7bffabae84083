#include "flowmatch/sample/sde.hpp"

#include <limits>

#include "flowmatch/sample/ancestral_euler.hpp"
#include "flowmatch/sample/sampler.hpp"
#include "tests/support/gaussian_flow.hpp"
#include "tests/support/test.hpp"

namespace {

using gaussian_flow::flow;
using gaussian_flow::noise;

template <class Method>
at::Tensor sampled(const Method& method, std::int64_t steps, std::uint64_t seed = 3) {
  fm::Rng rng(seed, test_device());
  return fm::Sampler(flow, method, fm::TimeGrid::uniform(steps)).sample_from(noise(), rng);
}

void check_distribution(const at::Tensor& x, double margin = 0.02) {
  CHECK(x.mean().item<double>() == Approx(gaussian_flow::mu).margin(margin));
  CHECK(x.std().item<double>() == Approx(gaussian_flow::s).margin(margin));
}

double correlation(const at::Tensor& x, const at::Tensor& y) {
  return ((x - x.mean()) * (y - y.mean())).mean().item<double>() /
         (x.std() * y.std()).item<double>();
}

/// A sharp corner of what may be given as a diffusion.
double constant(double) { return 0.7; }

}  // namespace

TEST_CASE("sde: the marginals are the flow's whatever the diffusion") {
  check_distribution(sampled(fm::EulerMaruyama{}, 400));
  check_distribution(sampled(fm::EulerMaruyama(fm::VanishingDiffusion(4)), 800));
  check_distribution(sampled(fm::EulerMaruyama(constant), 400));
  check_distribution(sampled(fm::SdeHeun{}, 100));
  check_distribution(sampled(fm::SdeHeun(constant), 200));
  check_distribution(sampled(fm::AncestralEuler{}, 200));
  check_distribution(sampled(fm::AncestralEuler(0.3), 200));
  // New noise makes samples forget their start.
  CHECK(correlation(sampled(fm::EulerMaruyama(fm::VanishingDiffusion(4)), 400), noise()) < 0.5);
  CHECK(correlation(sampled(fm::AncestralEuler{}, 100), noise()) < 0.5);
}

TEST_CASE("sde: Heun's method converges with order 2 in distribution") {
  const auto error = [](const at::Tensor& x) {
    return std::abs(x.std().item<double>() - gaussian_flow::s);
  };
  CHECK(error(sampled(fm::SdeHeun{}, 4)) / error(sampled(fm::SdeHeun{}, 8)) > 3.5);
  CHECK(error(sampled(fm::SdeHeun(constant), 4)) / error(sampled(fm::SdeHeun(constant), 8)) > 3.5);
}

TEST_CASE("sde: without diffusion or eta it is the flow's own method") {
  const auto none = [](double) { return 0.0; };
  const at::Tensor euler =
      fm::Sampler(flow, fm::ode::Euler{}, fm::TimeGrid::uniform(7)).sample_from(noise());
  CHECK(close(sampled(fm::EulerMaruyama(none), 7), euler, 0, 1e-12));
  CHECK(close(sampled(fm::AncestralEuler(0), 7), euler, 0, 1e-12));
}

TEST_CASE("sde: the step to the data draws no noise, and the seed decides the rest") {
  const auto check = [](const auto& method) {
    CHECK(at::equal(sampled(method, 1, 3), sampled(method, 1, 4)));
    CHECK(at::equal(sampled(method, 5, 3), sampled(method, 5, 3)));
    CHECK_FALSE(at::equal(sampled(method, 5, 3), sampled(method, 5, 4)));
  };
  check(fm::EulerMaruyama{});
  check(fm::SdeHeun{});
  check(fm::AncestralEuler{});
}

TEST_CASE("sde: an ancestral step is k-diffusion's") {
  // From sigma = 0.8 to 0.6 with eta 0.5, of x = 2 and the data 1 that v = -1/0.8 points at.
  const double sigma = 0.8, next = 0.6, eta = 0.5, x = 2, denoised = 1;
  const double down = next * (1 + (next / sigma - 1) * eta);
  const double renoise = std::sqrt(next * next - std::pow(down * (1 - next) / (1 - down), 2));
  const double euler = down / sigma * x + (1 - down / sigma) * denoised;
  const double expected = (1 - next) / (1 - down) * euler + 1.1 * renoise * 0.25;
  fm::ode::Workspace<double> w;
  const auto v = [&](double at, double) { return (denoised - at) / sigma; };
  const auto fixed = [](double) { return 0.25; };
  double state = x;
  fm::AncestralEuler(eta, 1.1).step(v, w, state, 1 - sigma, sigma - next, fixed);
  CHECK(state == Approx(expected).epsilon(1e-12));
}

TEST_CASE("sde: what cannot be is refused") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double scale : {0.0, -1.0, nan})
    require_error<fm::OptionError>([&] { fm::VanishingDiffusion{scale}; }, "above 0");
  for (const double eta : {-0.1, 1.1, nan})
    require_error<fm::OptionError>([&] { fm::AncestralEuler{eta}; }, "eta in [0, 1]");
  require_error<fm::OptionError>([&] { fm::AncestralEuler(1, -1); }, "s_noise");
  const auto negative = [](double) { return -1.0; };
  require_error<fm::OptionError>([&] { sampled(fm::EulerMaruyama(negative), 3); },
                                 "diffusion is -1");
  fm::Rng rng(1, test_device());
  const auto back = [&](const auto& method) {
    fm::Sampler(flow, method, fm::TimeGrid::uniform(3, 1, 0)).sample_from(noise(2), rng);
  };
  require_error<fm::OptionError>([&] { back(fm::EulerMaruyama{}); }, "from noise at 0");
  require_error<fm::OptionError>([&] { back(fm::SdeHeun{}); }, "from noise at 0");
  require_error<fm::OptionError>([&] { back(fm::AncestralEuler{}); }, "from noise at 0");
}
