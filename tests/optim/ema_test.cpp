#include "flowmatch/optim/ema.hpp"

#include <limits>
#include <stdexcept>

#include "tests/support/networks.hpp"

namespace {

/// One parameter and one buffer of float64.
struct PairImpl : torch::nn::Module {
  PairImpl() {
    weight = register_parameter("weight", doubles({1.0, 2.0}));
    count = register_buffer("count", doubles({10.0}));
  }
  void set(double a, double b, double c) {
    const torch::NoGradGuard no_grad;
    weight.copy_(doubles({a, b}));
    count.copy_(doubles({c}));
  }
  torch::Tensor weight, count;
};

/// The same weight under two names, as in tied embeddings.
struct TiedImpl : torch::nn::Module {
  TiedImpl() {
    first = register_module("first", torch::nn::Linear(torch::nn::LinearOptions(2, 2).bias(false)));
    second = register_module("second", first);
    first->to(torch::kDouble);
  }
  torch::nn::Linear first{nullptr}, second{nullptr};
};

}  // namespace

TEST_CASE("ema: the average follows its formula, of buffers too") {
  PairImpl module;
  fm::Ema ema(module, 0.75, /*warmup=*/false);
  REQUIRE(close(ema.state().at("weight"), doubles({1.0, 2.0})));
  module.set(5.0, -2.0, 11.0);
  ema.update();
  REQUIRE(close(ema.state().at("weight"), doubles({2.0, 1.0})));
  REQUIRE(close(ema.state().at("count"), doubles({10.25})));
  module.set(2.0, 9.0, 12.0);
  ema.update();
  REQUIRE(close(ema.state().at("weight"), doubles({2.0, 3.0})));
  REQUIRE(close(ema.state().at("count"), doubles({10.6875})));
  REQUIRE(ema.updates() == 2);
  REQUIRE(close(module.weight, doubles({2.0, 9.0})));  // the module's own stay
}

TEST_CASE("ema: warm-up follows min of decay and (1 + n) over (10 + n)") {
  PairImpl module;
  fm::Ema ema(module, 0.3);
  double average = 1.0;
  for (int n = 0; n < 12; ++n) {
    const double value = 3.0 * n - 5.0;
    module.set(value, 0, 0);
    ema.update();
    const double decay = std::min(0.3, (1.0 + n) / (10.0 + n));
    average = decay * average + (1 - decay) * value;
    REQUIRE(ema.state().at("weight")[0].item<double>() == Approx(average).epsilon(1e-12));
  }
  REQUIRE((1.0 + 2) / (10.0 + 2) < 0.3);  // both sides of the minimum were reached
  REQUIRE((1.0 + 3) / (10.0 + 3) > 0.3);
}

TEST_CASE("ema: a scope swaps averages in and the module's own back") {
  PairImpl module;
  fm::Ema ema(module, 0.75, false);
  module.set(5.0, -2.0, 11.0);
  ema.update();
  module.set(7.0, 8.0, 13.0);
  const torch::Tensor own = module.parameters().front();
  {
    const fm::Ema::Scope scope = ema.swap_in();
    REQUIRE(close(module.weight, doubles({2.0, 1.0})));
    REQUIRE(close(module.count, doubles({10.25})));
    REQUIRE(close(own, doubles({2.0, 1.0})));  // every handle of the parameter sees them
    REQUIRE(module.weight.requires_grad());
  }
  REQUIRE(close(module.weight, doubles({7.0, 8.0})));
  REQUIRE(close(module.count, doubles({13.0})));
  REQUIRE(close(ema.state().at("weight"), doubles({2.0, 1.0})));
  REQUIRE(close(ema.state().at("count"), doubles({10.25})));
}

TEST_CASE("ema: a scope restores after an exception") {
  PairImpl module;
  fm::Ema ema(module, 0.75, false);
  module.set(5.0, -2.0, 11.0);
  try {
    const auto scope = ema.swap_in();
    REQUIRE(close(module.weight, doubles({1.0, 2.0})));
    throw std::runtime_error("in the scope");
  } catch (const std::runtime_error&) {
  }
  REQUIRE(close(module.weight, doubles({5.0, -2.0})));
  REQUIRE(close(ema.state().at("weight"), doubles({1.0, 2.0})));
}

TEST_CASE("ema: an optimizer goes on with the module's own weights after a scope") {
  PairImpl module;
  torch::optim::SGD optimizer(module.parameters(), torch::optim::SGDOptions(1.0));
  fm::Ema ema(module, 0.5, false);
  module.set(4.0, 4.0, 0.0);
  { const auto scope = ema.swap_in(); }
  module.weight.sum().backward();
  optimizer.step();
  REQUIRE(close(module.weight, doubles({3.0, 3.0})));
  ema.update();
  REQUIRE(close(ema.state().at("weight"), doubles({2.0, 2.5})));
}

TEST_CASE("ema: its state goes through load and on as before") {
  PairImpl module;
  fm::Ema ema(module, 0.9);
  for (int n = 0; n < 5; ++n) {
    module.set(n, 2.0 * n, n);
    ema.update();
  }
  PairImpl other;
  other.set(-3.0, -4.0, 99.0);
  fm::Ema copy(other, 0.9);
  copy.load(ema.state(), ema.updates());
  REQUIRE(copy.updates() == 5);
  REQUIRE(close(other.weight, doubles({-3.0, -4.0})));  // the module's own stay
  REQUIRE(close(other.count, doubles({99.0})));
  module.set(1.0, 1.0, 1.0);
  other.set(1.0, 1.0, 1.0);
  ema.update();
  copy.update();
  REQUIRE(torch::equal(ema.state().at("weight"), copy.state().at("weight")));
  REQUIRE(torch::equal(ema.state().at("count"), copy.state().at("count")));
}

TEST_CASE("ema: a state of another network is refused and changes nothing") {
  PairImpl module;
  fm::Ema ema(module, 0.75, false);
  module.set(5.0, 6.0, 7.0);
  fm::StateDict foreign;
  foreign.insert("weight", doubles({1.0, 2.0, 3.0}));
  foreign.insert("count", doubles({1.0}));
  require_error<fm::CheckpointError>([&] { ema.load(foreign, 3); }, "shape of weight");
  REQUIRE(close(module.weight, doubles({5.0, 6.0})));
  REQUIRE(close(ema.state().at("weight"), doubles({1.0, 2.0})));
  REQUIRE(ema.updates() == 0);
}

TEST_CASE("ema: a decay out of range is refused") {
  PairImpl module;
  for (const double decay : {0.0, 1.0, -0.5, 1.5, std::numeric_limits<double>::quiet_NaN()}) {
    require_error<fm::OptionError>([&] { fm::Ema(module, decay); },
                                   fmt::format("an EMA decay of {};", decay));
  }
}

TEST_CASE("ema: a weight under two names is averaged and swapped once") {
  TiedImpl module;
  REQUIRE(module.parameters().size() == 2);
  const torch::NoGradGuard no_grad;
  module.first->weight.fill_(1.0);
  fm::Ema ema(module, 0.75, false);
  module.first->weight.fill_(5.0);
  ema.update();
  const auto twos = torch::full({2, 2}, 2.0, torch::kDouble);
  const auto fives = torch::full({2, 2}, 5.0, torch::kDouble);
  REQUIRE(close(ema.state().at("first.weight"), twos));
  REQUIRE(close(ema.state().at("second.weight"), twos));
  {
    const auto scope = ema.swap_in();
    REQUIRE(close(module.second->weight, twos));
  }
  REQUIRE(close(module.first->weight, fives));
  REQUIRE(close(ema.state().at("first.weight"), twos));
}

TEST_CASE("ema: BatchNorm's statistics are averaged and its counter is copied") {
  networks::Conditional net(2);
  fm::Ema ema(*net, 0.5, false);
  net->train();
  net->forward(torch::randn({4, 2, 5, 5}), torch::rand({4}), torch::zeros({4}, torch::kLong));
  ema.update();
  REQUIRE(ema.state().at("norm.num_batches_tracked").item<std::int64_t>() == 1);
  REQUIRE(close(ema.state().at("norm.running_mean"), 0.5 * net->norm->running_mean));
  REQUIRE(close(ema.state().at("norm.running_var"), 0.5 + 0.5 * net->norm->running_var));
  REQUIRE(ema.state().size() == net->named_parameters().size() + net->named_buffers().size());
}
