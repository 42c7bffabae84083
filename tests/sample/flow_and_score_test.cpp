#include "flowmatch/model/flow_and_score.hpp"

#include <functional>
#include <limits>

#include "flowmatch/sample/sampler.hpp"
#include "flowmatch/sample/sde.hpp"
#include "tests/support/gaussian_bridge.hpp"

namespace {

namespace bridge = gaussian_bridge;
using Bridge = fm::FlowAndScore<std::function<at::Tensor(const at::Tensor&, const at::Tensor&)>>;

/// Draws of the source, or of the data.
at::Tensor bridge_end(double mean, double deviation, std::int64_t n = 20000) {
  fm::Rng rng(1, test_device());
  return mean + deviation * rng.normal({n, 1}, at::kDouble);
}
at::Tensor bridge_start() { return bridge_end(bridge::m_0, bridge::s_0); }

template <class Method>
at::Tensor bridged(const at::Tensor& from, const Method& method, const fm::TimeGrid& grid,
                   std::uint64_t seed = 3) {
  fm::Rng rng(seed, test_device());
  return fm::Sampler(Bridge(bridge::flow_and_score, bridge::sigma), method, grid)
      .sample_from(from, rng);
}

/// Standard errors are at most 0.006.
void check_marginal(const at::Tensor& x, double t, double margin = 0.02) {
  INFO(t);
  CHECK(x.mean().item<double>() == Approx(bridge::mean(t)).margin(margin));
  CHECK(x.std().item<double>() == Approx(std::sqrt(bridge::variance(t))).margin(margin));
}

double covariance(const at::Tensor& x, const at::Tensor& y) {
  return ((x - x.mean()) * (y - y.mean())).mean().item<double>();
}

const fm::EulerMaruyama bridge_euler{fm::ConstantDiffusion(bridge::sigma)};
const fm::SdeHeun bridge_heun{fm::ConstantDiffusion(bridge::sigma)};

}  // namespace

TEST_CASE(
    "flow_and_score: the SDE is the Schrödinger bridge, its ends paired by entropic transport") {
  const at::Tensor x_0 = bridge_start();
  const at::Tensor euler = bridged(x_0, bridge_euler, fm::TimeGrid::uniform(200));
  check_marginal(euler, 1);
  CHECK(covariance(x_0, euler) == Approx(bridge::covariance()).margin(0.02));
  const at::Tensor heun = bridged(x_0, bridge_heun, fm::TimeGrid::uniform(50));
  check_marginal(heun, 1);
  CHECK(covariance(x_0, heun) == Approx(bridge::covariance()).margin(0.02));
  check_marginal(bridged(x_0, bridge_heun, fm::TimeGrid::uniform(40, 0, 0.4)), 0.4);
}

TEST_CASE("flow_and_score: it goes back by the same score") {
  const at::Tensor x_1 = bridge_end(bridge::m_1, bridge::s_1);
  const at::Tensor euler = bridged(x_1, bridge_euler, fm::TimeGrid::uniform(200, 1, 0));
  check_marginal(euler, 0);
  CHECK(covariance(x_1, euler) == Approx(bridge::covariance()).margin(0.02));
  check_marginal(bridged(x_1, bridge_heun, fm::TimeGrid::uniform(50, 1, 0)), 0);
  check_marginal(bridged(x_1, bridge_heun, fm::TimeGrid::uniform(40, 1, 0.4)), 0.4);
}

TEST_CASE("flow_and_score: other diffusions and none have the same marginals") {
  const at::Tensor x_0 = bridge_start();
  check_marginal(bridged(x_0, fm::EulerMaruyama{}, fm::TimeGrid::uniform(300)), 1);
  check_marginal(bridged(x_0, fm::SdeHeun(fm::ConstantDiffusion(1)), fm::TimeGrid::uniform(200)),
                 1);
  // The flow of two normal distributions keeps the order of points.
  const at::Tensor ode = bridged(x_0, fm::ode::RK4{}, fm::TimeGrid::uniform(40));
  CHECK(close(ode, bridge::m_1 + bridge::s_1 / bridge::s_0 * (x_0 - bridge::m_0), 1e-5, 1e-5));
  const auto off = [](double) { return 0.0; };
  CHECK(close(bridged(x_0, fm::EulerMaruyama(off), fm::TimeGrid::uniform(7)),
              bridged(x_0, fm::ode::Euler{}, fm::TimeGrid::uniform(7)), 0, 1e-12));
}

TEST_CASE("flow_and_score: steps of either way end without noise, and cost one evaluation each") {
  const at::Tensor x = bridge_start();
  for (const auto& grid : {fm::TimeGrid::uniform(1), fm::TimeGrid::uniform(1, 1, 0)})
    CHECK(at::equal(bridged(x, bridge_euler, grid, 3), bridged(x, bridge_euler, grid, 4)));
  const auto two = fm::TimeGrid::uniform(2, 1, 0);
  CHECK_FALSE(at::equal(bridged(x, bridge_euler, two, 3), bridged(x, bridge_euler, two, 4)));
  fm::Rng rng(1, test_device());
  fm::Sampler sampler(Bridge(bridge::flow_and_score, bridge::sigma), bridge_euler,
                      fm::TimeGrid::uniform(10));
  CHECK(sampler.solve(x, rng).statistics.evaluations == 10);
}

TEST_CASE("flow_and_score: steps beyond the ends and diffusions that cannot be are refused") {
  const at::Tensor x = bridge_end(0, 1, 2);
  require_error<fm::OptionError>([&] { bridged(x, bridge_euler, fm::TimeGrid::uniform(3, 0, 2)); },
                                 "goes between 0 and 1");
  require_error<fm::OptionError>([&] { bridged(x, bridge_heun, fm::TimeGrid::uniform(3, 1, -1)); },
                                 "goes between 0 and 1");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double sigma : {0.0, -1.0, nan})
    require_error<fm::OptionError>([&] { fm::ConstantDiffusion{sigma}; }, "above 0");
}
