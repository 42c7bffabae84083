#include "flowmatch/sample/likelihood.hpp"

#include <cmath>

#include "tests/support/finite_difference.hpp"
#include "tests/support/gaussian_flow.hpp"
#include "tests/support/networks.hpp"
#include "tests/support/test.hpp"

namespace ode = flowmatch::ode;

namespace {

using gaussian_flow::flow;
using gaussian_flow::mu;
using gaussian_flow::s;
const fm::AdaptiveOptions tight{.rtol = 1e-8, .atol = 1e-8};

}  // namespace

TEST_CASE("likelihood: the density of a Gaussian flow is the Gaussian's for any shape") {
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{6, 1}, {5, 3}, {4, 2, 3, 3}, {3}}) {
    const at::Tensor x_1 = mu + s * torch::randn(shape, torch::kDouble);
    const at::Tensor exact = gaussian_flow::log_prob(x_1);
    for (const std::int64_t chunk : {1, 2, 32}) {
      fm::Likelihood likelihood(flow, ode::Dopri5{}, tight, fm::ExactDivergence{chunk});
      const fm::LikelihoodResult result = likelihood.log_prob(x_1);
      CHECK(close(result.log_prob, exact, 1e-6, 1e-6));
      CHECK(close(result.x, (x_1 - mu) / s, 1e-6, 1e-6));  // the noise that it encodes to
    }
  }
}

TEST_CASE(
    "likelihood: samples and their density come out of one solve and go back to their noise") {
  const at::Tensor x_0 = torch::randn({7, 2, 2}, torch::kDouble);
  fm::Likelihood likelihood(flow, ode::RK4{}, fm::TimeGrid::uniform(40));
  const fm::LikelihoodResult forward = likelihood.sample_from(x_0);
  CHECK(close(forward.x, mu + s * x_0, 1e-5, 1e-5));
  CHECK(close(forward.log_prob, gaussian_flow::log_prob(forward.x), 1e-4, 1e-4));
  CHECK(forward.statistics.evaluations == 160);
  const fm::LikelihoodResult back = likelihood.log_prob(forward.x);
  CHECK(close(back.x, x_0, 1e-5, 1e-5));
  CHECK(close(back.log_prob, forward.log_prob, 1e-5, 1e-5));
}

TEST_CASE("likelihood: Hutchinson is exact where the derivative is a multiple of the identity") {
  const at::Tensor x_1 = mu + s * torch::randn({5, 4}, torch::kDouble);
  fm::Likelihood rademacher(flow, ode::Dopri5{}, tight, fm::Hutchinson{});
  CHECK(close(rademacher.log_prob(x_1).log_prob, gaussian_flow::log_prob(x_1), 1e-6, 1e-6));
  // Gaussian probes only on average: 2000 of them leave an error of about sqrt(2 / 8000).
  fm::Likelihood gaussian_probes(flow, ode::Dopri5{}, tight,
                                 fm::Hutchinson{2000, fm::Probe::gaussian, 3});
  CHECK(close(gaussian_probes.log_prob(x_1).log_prob, gaussian_flow::log_prob(x_1), 0, 0.4));
}

TEST_CASE("likelihood: Hutchinson's mean is the exact divergence of a network") {
  torch::manual_seed(0);
  networks::Mlp net(3, 16);
  net->to(torch::kDouble);
  const at::Tensor x = torch::randn({4, 3}, torch::kDouble);
  fm::Likelihood exact(net, ode::RK4{}, fm::TimeGrid::uniform(5));
  const at::Tensor expected = exact.log_prob(x).log_prob;
  const auto estimate = [&](std::int64_t probes, std::uint64_t seed) {
    fm::Likelihood likelihood(net, ode::RK4{}, fm::TimeGrid::uniform(5),
                              fm::Hutchinson{probes, fm::Probe::rademacher, seed});
    return likelihood.log_prob(x).log_prob;
  };
  CHECK(close(estimate(4000, 1), expected, 0, 0.05));
  CHECK(at::equal(estimate(1, 5), estimate(1, 5)));
  CHECK_FALSE(at::equal(estimate(1, 5), estimate(1, 6)));
}

TEST_CASE("likelihood: labels go with their samples through every chunk") {
  torch::manual_seed(0);
  networks::Conditional net;
  net->eval();
  const at::Tensor x = torch::randn({3, 1, 2, 2});
  const at::Tensor labels = torch::tensor({1, 5, 9});
  fm::Likelihood likelihood(net, ode::Heun2{}, fm::TimeGrid::uniform(4), fm::ExactDivergence{3});
  const at::Tensor all = likelihood.log_prob(x, labels).log_prob;
  for (std::int64_t i = 0; i < 3; ++i) {
    const at::Tensor one =
        likelihood.log_prob(x.slice(0, i, i + 1), labels.slice(0, i, i + 1)).log_prob;
    CHECK(close(one, all.slice(0, i, i + 1), 1e-4, 1e-4));
  }
}

TEST_CASE("likelihood: gradients where asked for, checked by finite differences") {
  torch::manual_seed(0);
  networks::Mlp net(2, 8);
  net->to(torch::kDouble);
  const at::Tensor x = torch::randn({3, 2}, torch::kDouble).requires_grad_();
  fm::LikelihoodOptions options;
  options.gradients = true;
  fm::Likelihood likelihood(net, ode::RK4{}, fm::TimeGrid::uniform(4), fm::ExactDivergence{},
                            options);
  likelihood.log_prob(x).log_prob.sum().backward();
  const auto value = [&] {
    return fm::Likelihood(net, ode::RK4{}, fm::TimeGrid::uniform(4))
        .log_prob(x.detach())
        .log_prob.sum()
        .item<double>();
  };
  CHECK(x.grad()[1][0].item<double>() ==
        Approx(finite_difference(x.detach()[1][0], value)).epsilon(1e-6));
  const at::Tensor weight = net->parameters()[0];
  CHECK(weight.grad()[2][1].item<double>() ==
        Approx(finite_difference(weight.detach()[2][1], value)).epsilon(1e-6));
  // Not asked for, nothing is kept.
  CHECK_FALSE(fm::Likelihood(net, ode::RK4{}, fm::TimeGrid::uniform(4))
                  .log_prob(x)
                  .log_prob.requires_grad());
}

TEST_CASE("likelihood: a field that does not look at x keeps the density") {
  const auto drift = [](const at::Tensor& x, const at::Tensor&) { return at::ones_like(x); };
  const at::Tensor x = torch::randn({4, 2});
  fm::Likelihood likelihood(drift, ode::Euler{}, fm::TimeGrid::uniform(2));
  CHECK(close(likelihood.log_prob(x).log_prob, fm::standard_normal_log_prob(x - 1), 1e-5, 1e-5));
}

TEST_CASE("likelihood: bad input is refused with a remedy") {
  fm::Likelihood likelihood(flow, ode::Euler{}, fm::TimeGrid::post(5));
  require_error<fm::OptionError>(
      [&] {
        likelihood.log_prob(torch::ones({2, 2}));
      },
      "TimeGrid::uniform");
  fm::Likelihood chunk(flow, ode::Euler{}, fm::TimeGrid::uniform(2), fm::ExactDivergence{0});
  require_error<fm::OptionError>([&] { chunk.log_prob(torch::ones({2, 2})); }, "chunk is 0");
  fm::Likelihood probes(flow, ode::Euler{}, fm::TimeGrid::uniform(2), fm::Hutchinson{0});
  require_error<fm::OptionError>([&] { probes.log_prob(torch::ones({2, 2})); }, "probes is 0");
  require_error<fm::ShapeError>([&] { probes.log_prob(torch::arange(3)); }, "floating tensor");
}
