#include "flowmatch/loss/mean_flow.hpp"

#include <limits>

#include "flowmatch/noisify/two_times.hpp"
#include "flowmatch/path/affine.hpp"
#include "tests/support/gaussian_flow.hpp"
#include "tests/support/networks.hpp"

namespace {

struct NetImpl : torch::nn::Module {
  NetImpl() {
    first = register_module("first", torch::nn::Linear(4, 16));
    dropout = register_module("dropout", torch::nn::Dropout(0.5));
    second = register_module("second", torch::nn::Linear(16, 2));
    to(test_device());
    to(torch::kDouble);
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t, const at::Tensor& r) {
    const at::Tensor in = at::cat({x, t.unsqueeze(1), r.unsqueeze(1)}, 1);
    return second->forward(dropout->forward(at::tanh(first->forward(in))));
  }
  torch::nn::Linear first{nullptr}, second{nullptr};
  torch::nn::Dropout dropout{nullptr};
};
TORCH_MODULE(Net);

fm::TwoTimeNoised<> two_times(std::int64_t n) {
  fm::Rng rng(3, test_device());
  const fm::TwoTimeNoisifier noisify(fm::LinearPath{}, 0.3);
  return noisify(fm::Batch<>{rng.normal({n, 2}, at::kDouble)}, rng);
}

}  // namespace

TEST_CASE("mean_flow: the average velocity of a flow is its own target") {
  const auto noised = two_times(50);
  for (const auto derivative : {fm::Derivative::forward, fm::Derivative::double_backward}) {
    const fm::MeanFlowLoss loss({.own_velocity = true, .derivative = derivative});
    auto model = gaussian_flow::average;
    const at::Tensor target = loss.target_of(model, noised);
    // Its expectation over dx_t, which is v at x_t, is u.
    const at::Tensor expected =
        target - noised.target + gaussian_flow::velocity(noised.x_t, noised.t);
    CHECK(close(expected, gaussian_flow::average(noised.x_t, noised.t, noised.r), 1e-9, 1e-9));
  }
}

TEST_CASE("mean_flow: both derivatives are the central difference's") {
  torch::manual_seed(4);
  Net net;
  const auto noised = two_times(20);
  const auto u = [&](double h) {
    const torch::NoGradGuard no_grad;
    return net->forward(noised.x_t + h * noised.target, noised.t + h, noised.r);
  };
  net->eval();
  const at::Tensor difference = (u(1e-5) - u(-1e-5)) / 2e-5;
  net->train();  // the derivative is taken without dropout
  const at::Tensor span = (noised.r - noised.t).unsqueeze(1);
  for (const auto derivative : {fm::Derivative::forward, fm::Derivative::double_backward}) {
    const at::Tensor target = fm::MeanFlowLoss({.derivative = derivative}).target_of(net, noised);
    CHECK(close(target, noised.target + span * difference, 1e-7, 1e-8));
    CHECK_FALSE(target.requires_grad());
    CHECK(net->is_training());
    for (const at::Tensor& p : net->parameters()) CHECK_FALSE(p.grad().defined());
  }
}

TEST_CASE("mean_flow: samples of one time are targets as they are, and cost no derivative") {
  const auto noised = two_times(50);
  const at::Tensor same = noised.r == noised.t;
  std::int64_t asked = 0;
  const auto model = [&](const at::Tensor& x, const at::Tensor& t, const at::Tensor& r) {
    asked = x.size(0);
    return gaussian_flow::average(x, t, r);
  };
  const fm::MeanFlowLoss loss;
  auto counted = model;
  const at::Tensor target = loss.target_of(counted, noised);
  CHECK(asked == 50 - same.sum().item<std::int64_t>());
  CHECK(torch::equal(target.index({same}), noised.target.index({same})));
  fm::TwoTimeNoised<> told = noised;
  told.apart.reset();  // by r and t alone
  CHECK(close(loss.target_of(counted, told), target));
  fm::TwoTimeNoised<> equal = noised;
  equal.r = equal.t;
  equal.apart.reset();
  asked = -1;
  CHECK(torch::equal(loss.target_of(counted, equal), equal.target));
  CHECK(asked == -1);
}

TEST_CASE("mean_flow: errors are weighed by their own size, and the gradient is u's alone") {
  torch::manual_seed(5);
  Net net;
  net->eval();
  const auto noised = two_times(20);
  const fm::MeanFlowLoss plain({.power = 0}), weighted({.power = 1, .floor = 0.01});
  const at::Tensor target = plain.target_of(net, noised);
  const at::Tensor each = (net->forward(noised.x_t, noised.t, noised.r) - target).square().sum(1);
  CHECK(close(plain(net, noised), each.mean(), 1e-12, 1e-12));
  CHECK(close(weighted(net, noised), (each / (each + 0.01)).mean(), 1e-12, 1e-12));
  CHECK(close(fm::MeanFlowLoss()(net, noised), (each / (each + 1e-3)).mean(), 1e-12, 1e-12));
  const auto gradient = torch::autograd::grad({plain(net, noised)}, net->parameters());
  const auto expected = torch::autograd::grad({each.mean()}, net->parameters());
  for (std::size_t i = 0; i < gradient.size(); ++i)
    CHECK(close(gradient[i], expected[i], 1e-10, 1e-12));
}

TEST_CASE("mean_flow: options out of range are refused") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  require_error<fm::OptionError>([&] { fm::MeanFlowLoss({.power = -1}); }, "power -1");
  require_error<fm::OptionError>([&] { fm::MeanFlowLoss({.power = nan}); }, "power nan");
  require_error<fm::OptionError>([&] { fm::MeanFlowLoss({.floor = 0}); }, "floor 0");
}
