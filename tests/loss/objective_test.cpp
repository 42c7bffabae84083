#include "flowmatch/loss/objective.hpp"

#include "tests/support/networks.hpp"

namespace {

struct L1 {
  double weight = 1;
  at::Tensor operator()(const at::Tensor& prediction, const at::Tensor& target) const {
    return weight * (prediction - target).abs().mean();
  }
};

}  // namespace

TEST_CASE("objective: without a condition it is the loss of the model at x_t and t") {
  torch::manual_seed(0);
  networks::Mlp network;
  const fm::Noised<> noised{on_device::randn({5, 2}), on_device::rand({5}),
                            on_device::randn({5, 2})};
  const at::Tensor loss = fm::PredictionLoss<>{}(network, noised);
  const at::Tensor expected =
      (network->forward(noised.x_t, noised.t) - noised.target).square().mean();
  CHECK(close(loss, expected, 1e-6, 1e-6));
  loss.backward();
  for (const at::Tensor& parameter : network->parameters()) CHECK(parameter.grad().defined());
}

TEST_CASE("objective: with a condition the model gets it") {
  const auto model = [](const at::Tensor& x, const at::Tensor& t, const at::Tensor& c) {
    return x + t.unsqueeze(1) + c.unsqueeze(1);
  };
  const at::Tensor x = on_device::zeros({2, 3}, torch::kDouble);
  const fm::Noised<at::Tensor> noised{x, doubles({0.5, 1}), x, doubles({1, 2})};
  CHECK(fm::PredictionLoss<>{}(model, noised).item<double>() ==
        Approx((1.5 * 1.5 + 3.0 * 3.0) / 2));
}

TEST_CASE("objective: another loss takes the place of the squared error") {
  const auto model = [](const at::Tensor& x, const at::Tensor&) { return x; };
  const fm::Noised<> noised{doubles({1, -2}), doubles({0, 0}), doubles({0, 0})};
  CHECK(fm::PredictionLoss(L1{2})(model, noised).item<double>() == Approx(3));
}

TEST_CASE("objective: a prediction of another shape is a ShapeError") {
  const auto model = [](const at::Tensor& x, const at::Tensor&) { return x.sum(1, true); };
  const fm::Noised<> noised{on_device::zeros({2, 3}), on_device::zeros({2}),
                            on_device::zeros({2, 3})};
  require_error<fm::ShapeError>([&] { fm::PredictionLoss<>{}(model, noised); },
                                "the model's prediction has shape [2, 1]");
}

TEST_CASE("objective: the concept takes objectives of the model and refuses the rest") {
  static_assert(fm::Objective<fm::PredictionLoss<>, networks::Mlp>);
  static_assert(fm::Objective<fm::PredictionLoss<L1>, networks::Mlp>);
  static_assert(fm::Objective<fm::PredictionLoss<>, networks::Conditional, at::Tensor>);
  static_assert(!fm::Objective<fm::PredictionLoss<>, networks::Conditional>);
  static_assert(!fm::Objective<fm::PredictionLoss<>, networks::Mlp, at::Tensor>);
  static_assert(!fm::Objective<fm::Mse, networks::Mlp>);
  auto mine = [](auto&, const fm::Noised<>& noised) { return noised.target.sum(); };
  static_assert(fm::Objective<decltype(mine), networks::Mlp>);
  networks::Mlp network;
  CHECK(mine(network, fm::Noised<>{{}, {}, on_device::ones({2})}).item<float>() == 2);
}
