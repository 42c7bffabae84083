#include "flowmatch/model/flow_and_score.hpp"

#include <limits>

#include "flowmatch/model/modules_in.hpp"
#include "flowmatch/sample/sampler.hpp"
#include "tests/support/networks.hpp"

namespace {

/// v = x + label, s = t x.
const auto in_two_parts = [](const at::Tensor& x, const at::Tensor& t, const at::Tensor& label) {
  return at::cat({x + fm::expand_time(label, x), fm::expand_time(t, x) * x}, 1);
};

struct TwoHeadsImpl : torch::nn::Module {
  TwoHeadsImpl() {
    layer = register_module("layer", torch::nn::Linear(3, 4));
    dropout = register_module("dropout", torch::nn::Dropout(0.5));
    to(test_device());
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t) {
    return dropout->forward(layer->forward(at::cat({x, t.unsqueeze(1).to(x.scalar_type())}, 1)));
  }
  torch::nn::Linear layer{nullptr};
  torch::nn::Dropout dropout{nullptr};
};
TORCH_MODULE(TwoHeads);

}  // namespace

TEST_CASE("flow_and_score: the first half is the velocity, the second the score by sigma^2 / 2") {
  const at::Tensor x = on_device::randn({4, 3, 2, 2}, torch::kDouble);
  const at::Tensor t = doubles({0, 0.2, 0.5, 1}), label = doubles({1, 2, 3, 4});
  fm::FlowAndScore model(in_two_parts, 0.5);
  CHECK(at::equal(model(x, t, label), x + fm::expand_time(label, x)));
  const fm::VelocityAndScore both = model.velocity_and_score(x, t, label);
  CHECK(at::equal(both.velocity, model(x, t, label)));
  CHECK(close(both.score, 8 * fm::expand_time(t, x) * x));
  CHECK(model.sigma() == 0.5);
}

TEST_CASE("flow_and_score: the network inside is found, and its precision kept from the score") {
  torch::manual_seed(1);
  TwoHeads net;
  fm::FlowAndScore model(net, 1);
  CHECK(fm::parameters_in(model).size() == 2);
  const at::Tensor x_0 = on_device::randn({5, 2});
  fm::Sampler sampler(model, fm::ode::Euler{}, fm::TimeGrid::uniform(3));
  CHECK(at::equal(sampler.sample_from(x_0), sampler.sample_from(x_0)));  // without dropout
  CHECK(net->is_training());
  net->to(torch::kBFloat16);
  const at::Tensor t = on_device::full({5}, 0.5);
  CHECK(model.velocity_and_score(x_0, t).score.scalar_type() == torch::kFloat);
  CHECK(sampler.sample_from(x_0).scalar_type() == torch::kFloat);
}

TEST_CASE("flow_and_score: what cannot be is refused") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double sigma : {0.0, -1.0, nan, std::numeric_limits<double>::infinity()})
    require_error<fm::OptionError>([&] { fm::FlowAndScore(in_two_parts, sigma); }, "above 0");
  const auto same = [](const at::Tensor& x, const at::Tensor&) { return x; };
  const auto longer = [](const at::Tensor& x, const at::Tensor&) { return at::cat({x, x}, 0); };
  const auto none = [](const at::Tensor&, const at::Tensor&) { return at::Tensor(); };
  const auto ask = [](auto model, at::IntArrayRef shape) {
    fm::FlowAndScore(model, 1)(on_device::zeros(shape), on_device::zeros({3}));
  };
  require_error<fm::ShapeError>([&] { ask(same, {3, 2}); }, "give [B, 2 C, …]");
  require_error<fm::ShapeError>([&] { ask(longer, {3, 2}); }, "gave [6, 2] for x of shape [3, 2]");
  require_error<fm::ShapeError>([&] { ask(same, {3}); }, "[3]");
  require_error<fm::ShapeError>([&] { ask(none, {3, 2}); }, "undefined");
}
