#include "flowmatch/sample/likelihood.hpp"

#include <cmath>

#include "flowmatch/model/adapters.hpp"
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
    const at::Tensor x_1 = mu + s * on_device::randn(shape, torch::kDouble);
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
  const at::Tensor x_0 = on_device::randn({7, 2, 2}, torch::kDouble);
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
  const at::Tensor x_1 = mu + s * on_device::randn({5, 4}, torch::kDouble);
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
  const at::Tensor x = on_device::randn({4, 3}, torch::kDouble);
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
  const at::Tensor x = on_device::randn({3, 1, 2, 2});
  const at::Tensor labels = on_device::tensor({1, 5, 9});
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
  const at::Tensor x = on_device::randn({3, 2}, torch::kDouble).requires_grad_();
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
  const at::Tensor x = on_device::randn({4, 2});
  fm::Likelihood likelihood(drift, ode::Euler{}, fm::TimeGrid::uniform(2));
  CHECK(close(likelihood.log_prob(x).log_prob, fm::standard_normal_log_prob(x - 1), 1e-5, 1e-5));
}

TEST_CASE("likelihood: bad input is refused with a remedy") {
  fm::Likelihood likelihood(flow, ode::Euler{}, fm::TimeGrid::post(5));
  require_error<fm::OptionError>(
      [&] {
        likelihood.log_prob(on_device::ones({2, 2}));
      },
      "TimeGrid::uniform");
  fm::Likelihood chunk(flow, ode::Euler{}, fm::TimeGrid::uniform(2), fm::ExactDivergence{0});
  require_error<fm::OptionError>([&] { chunk.log_prob(on_device::ones({2, 2})); }, "chunk is 0");
  fm::Likelihood probes(flow, ode::Euler{}, fm::TimeGrid::uniform(2), fm::Hutchinson{0});
  require_error<fm::OptionError>([&] { probes.log_prob(on_device::ones({2, 2})); }, "probes is 0");
  require_error<fm::ShapeError>([&] { probes.log_prob(on_device::arange(3)); }, "floating tensor");
}

TEST_CASE("likelihood: derivatives are recorded under InferenceMode, or missed loudly") {
  const auto half = [](const at::Tensor& x, const at::Tensor&) { return 0.5 * x; };
  const auto log_p = [](const auto& model) {
    return fm::Likelihood(model, ode::RK4{}, fm::TimeGrid::uniform(20))
        .log_prob(on_device::ones({1, 2}))
        .log_prob.template item<double>();
  };
  // log N(e^-1/2 (1, 1); 0, I) - 1
  const double exact = -std::log(2 * std::acos(-1.0)) - std::exp(-1) - 1;
  CHECK(log_p(half) == Approx(exact).epsilon(1e-5));
  {
    const c10::InferenceMode inference;
    CHECK(log_p(half) == Approx(exact).epsilon(1e-5));
  }
  const auto guarded = [&](const at::Tensor& x, const at::Tensor& t) {
    const at::NoGradGuard none;
    return half(x, t);
  };
  const auto detached = [&](const at::Tensor& x, const at::Tensor& t) {
    return half(x.detach(), t) * on_device::ones({1}).requires_grad_();  // recorded, but not by x
  };
  const auto sum = [](const at::Tensor& x, const at::Tensor&) {
    return (x - x.flip(1)).detach();  // the same where all of x moves alike
  };
  require_error<fm::OptionError>([&] { log_p(guarded); }, "recorded no derivative");
  require_error<fm::OptionError>([&] { log_p(detached); }, "recorded no derivative");
  require_error<fm::OptionError>([&] { log_p(sum); }, "recorded no derivative");
  fm::Likelihood estimate(guarded, ode::RK4{}, fm::TimeGrid::uniform(2), fm::Hutchinson{});
  require_error<fm::OptionError>(
      [&] {
        estimate.sample_from(on_device::ones({3, 2}));
      },
      "remove NoGradGuard");
}

TEST_CASE("likelihood: probes are others at each call, and follow the seed") {
  const auto swap = [](const at::Tensor& x, const at::Tensor&) { return x.flip(1); };
  const auto make = [&](std::uint64_t seed) {
    return fm::Likelihood(swap, ode::RK4{}, fm::TimeGrid::uniform(10),
                          fm::Hutchinson{1, fm::Probe::rademacher, seed});
  };
  const at::Tensor x = fm::Rng(5, test_device()).normal({512, 2});
  const double exact = fm::Likelihood(swap, ode::RK4{}, fm::TimeGrid::uniform(10))
                           .log_prob(x)
                           .log_prob.mean()
                           .item<double>();
  auto one_by_one = make(0), again = make(0), other = make(1);
  std::vector<at::Tensor> values, repeated, others;
  for (const at::Tensor& one : x.split(1)) {
    values.push_back(one_by_one.log_prob(one).log_prob);
    repeated.push_back(again.log_prob(one).log_prob);
    others.push_back(other.log_prob(one).log_prob);
  }
  // The estimate of one sample is off by 2 either way.
  CHECK(at::cat(values).mean().item<double>() == Approx(exact).margin(4 * 2 / std::sqrt(512.0)));
  CHECK(at::equal(at::cat(values), at::cat(repeated)));
  CHECK_FALSE(at::equal(at::cat(values), at::cat(others)));
}

TEST_CASE("likelihood: no samples and points of no extent have a density, too") {
  fm::Likelihood fixed(flow, ode::RK4{}, fm::TimeGrid::uniform(4));
  fm::Likelihood adaptive(flow, ode::Dopri5{}, tight);
  fm::Likelihood estimate(flow, ode::RK4{}, fm::TimeGrid::uniform(4), fm::Hutchinson{});
  const auto empty = [&](auto& likelihood) {
    const fm::LikelihoodResult r = likelihood.log_prob(on_device::zeros({0, 3, 2}));
    CHECK(r.log_prob.sizes() == at::IntArrayRef{0});
    CHECK(r.x.sizes() == at::IntArrayRef{0, 3, 2});
    CHECK(likelihood.sample_from(on_device::zeros({0, 1})).log_prob.numel() == 0);
  };
  empty(fixed);
  empty(adaptive);
  empty(estimate);
  CHECK(at::equal(fixed.log_prob(on_device::zeros({4, 0})).log_prob, on_device::zeros({4})));
}

TEST_CASE("likelihood: only grids from one end to the other") {
  const auto refused = [&](const fm::TimeGrid& grid) {
    fm::Likelihood likelihood(flow, ode::Euler{}, grid);
    require_error<fm::OptionError>(
        [&] {
          likelihood.log_prob(on_device::ones({2, 2}));
        },
        "from 0 to 1");
    require_error<fm::OptionError>(
        [&] {
          likelihood.sample_from(on_device::ones({2, 2}));
        },
        "from 0 to 1");
  };
  refused(fm::TimeGrid::uniform(5, 0.01));
  refused(fm::TimeGrid::uniform(5, 0, 0.97));
  refused(fm::TimeGrid::uniform(5, 1, 0));
  refused(fm::TimeGrid::nodes({0, 0.5, 1.1}));
  fm::Likelihood typed(flow, ode::Euler{}, fm::TimeGrid::nodes({0, 0.3, 0.1 + 0.2 + 0.7}));
  CHECK(typed.log_prob(on_device::ones({2, 2})).log_prob.isfinite().all().item<bool>());
}

TEST_CASE("likelihood: half precision and networks in adapters are as for the sampler") {
  const at::Tensor x = (mu + s * on_device::randn({5, 2})).to(torch::kBFloat16);
  const fm::LikelihoodResult r =
      fm::Likelihood(flow, ode::RK4{}, fm::TimeGrid::uniform(100)).log_prob(x);
  CHECK(r.log_prob.dtype() == torch::kFloat);
  CHECK(close(r.log_prob, gaussian_flow::log_prob(x.to(torch::kFloat)), 0, 0.2));
  networks::Mlp net(2, 16, /*dropout=*/true);
  net->train();
  fm::Likelihood adapted(fm::VelocityFromX1(net, fm::CondOTScheduler{}), ode::Euler{},
                         fm::TimeGrid::uniform(3));
  const at::Tensor y = on_device::randn({4, 2});
  CHECK(at::equal(adapted.log_prob(y).log_prob, adapted.log_prob(y).log_prob));
  CHECK(net->is_training());
  net->to(torch::kDouble);
  CHECK(adapted.log_prob(y).log_prob.dtype() == torch::kDouble);
}

TEST_CASE("likelihood: a tensor of no dimension is refused and a start near 0 is taken for it") {
  fm::Likelihood likelihood(flow, ode::RK4{}, fm::TimeGrid::nodes({1e-17, 0.5, 1}));
  CHECK(likelihood.log_prob(on_device::zeros({2, 1})).log_prob.isfinite().all().item<bool>());
  require_error<fm::ShapeError>([&] { likelihood.log_prob(on_device::tensor(1.0)); },
                                "floating tensor");
}

TEST_CASE("likelihood: half a solve has none") {
  const fm::AdaptiveOptions few{
      .rtol = 1e-8, .atol = 1e-8, .max_steps = 3, .at_limit = ode::AtLimit::stop};
  fm::Likelihood likelihood(flow, ode::Dopri5{}, few);
  require_error<fm::OptionError>(
      [&] {
        likelihood.log_prob(on_device::ones({2, 2}));
      },
      "half a solve");
}

TEST_CASE("likelihood: without gradients none comes out, and the source's density is checked") {
  const at::Tensor x_0 = on_device::randn({3, 2}).requires_grad_();
  fm::Likelihood likelihood(flow, ode::RK4{}, fm::TimeGrid::uniform(4));
  CHECK_FALSE(likelihood.sample_from(x_0).log_prob.requires_grad());
  CHECK_FALSE(likelihood.log_prob(x_0).log_prob.requires_grad());
  for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{3, 1}, {}}) {
    fm::Likelihood other(
        flow, ode::RK4{}, fm::TimeGrid::uniform(4), fm::ExactDivergence{},
        {.source_log_prob = [&](const at::Tensor&) { return on_device::zeros(shape); }});
    require_error<fm::ShapeError>(
        [&] {
          other.log_prob(on_device::ones({3, 2}));
        },
        "source_log_prob(x_0)");
  }
}

TEST_CASE("likelihood: conditions made in InferenceMode serve, a network made there is refused") {
  const auto labelled = [](const at::Tensor& x, const at::Tensor&, const at::Tensor& c) {
    return (x * c.unsqueeze(1)).sin();
  };
  fm::Likelihood likelihood(labelled, ode::RK4{}, fm::TimeGrid::uniform(4), fm::Hutchinson{});
  const at::Tensor x = on_device::randn({3, 2});
  const at::Tensor condition = on_device::rand({3});
  const at::Tensor right = likelihood.log_prob(x, condition).log_prob;
  const c10::InferenceMode inference;
  fm::Likelihood again(labelled, ode::RK4{}, fm::TimeGrid::uniform(4), fm::Hutchinson{});
  CHECK(at::equal(again.log_prob(x, condition.clone()).log_prob, right));
  networks::Mlp net(2, 16);
  fm::Likelihood made_here(net, ode::RK4{}, fm::TimeGrid::uniform(4));
  require_error<fm::OptionError>([&] { made_here.log_prob(x); }, "made in InferenceMode");
}
