#include "flowmatch/optim/ema.hpp"

#include <atomic>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

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
    first->to(test_device(), torch::kDouble);
  }
  torch::nn::Linear first{nullptr}, second{nullptr};
};

/// Every kind of tensor that a module can register.
struct KindsImpl : torch::nn::Module {
  KindsImpl() {
    const auto parameter = [&](const char* name, at::Tensor value) {
      register_parameter(name, std::move(value));
    };
    parameter("half", on_device::full({3}, 1, torch::kHalf));
    parameter("bfloat16", on_device::full({3}, 1, torch::kBFloat16));
    parameter("complex", on_device::full({3}, c10::complex<double>(1, 1), torch::kComplexFloat));
    parameter("scalar", on_device::full({}, 1, torch::kFloat));
    parameter("empty", on_device::empty({0, 4}));
    parameter("double", on_device::ones({2}, torch::kDouble));
    parameter("channels_last",
              on_device::ones({2, 3, 2, 2}).contiguous(torch::MemoryFormat::ChannelsLast));
    register_parameter("expanded", on_device::ones({1}).expand({4}), false);
    const at::Tensor storage = on_device::ones({6});
    parameter("first_view", storage.slice(0, 0, 4));
    parameter("second_view", storage.slice(0, 2, 6));
    register_buffer("float8", on_device::ones({3}).to(torch::kFloat8_e4m3fn));
    register_buffer("bools", on_device::tensor({true, false}));
    register_buffer("integers", on_device::tensor({1, 2}));
    register_buffer("complex_buffer", on_device::ones({2}, torch::kComplexDouble));
    register_buffer("expanded_buffer", on_device::ones({1, 2}).expand({3, 2}));
    register_buffer("empty_buffer", on_device::empty({0}));
    register_buffer("undefined", {});
  }
};

/// What a module holds, in float64 or complex128.
std::map<std::string, at::Tensor> wide(const fm::StateDict& state) {
  std::map<std::string, at::Tensor> all;
  for (const auto& entry : state) {
    const at::Tensor& t = entry.value();
    all[entry.key()] = t.to(t.is_complex() ? torch::kComplexDouble : torch::kDouble, false, true);
  }
  return all;
}

/// Multiplies every number of the module by 3.
void triple(torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  for (const auto& entry : fm::state_dict(module)) {
    at::Tensor t = fm::without_repetitions(entry.value());
    if (entry.key() == "second_view") t = t.slice(0, 2, 4);  // the rest is the first one's
    if (t.scalar_type() == torch::kBool) {
      t.logical_not_();
    } else {
      t.copy_((t.element_size() == 1 ? t.to(torch::kFloat) : t) * 3);
    }
  }
}

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
  const auto twos = on_device::full({2, 2}, 2.0, torch::kDouble);
  const auto fives = on_device::full({2, 2}, 5.0, torch::kDouble);
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
  net->forward(on_device::randn({4, 2, 5, 5}), on_device::rand({4}),
               on_device::zeros({4}, torch::kLong));
  ema.update();
  REQUIRE(ema.state().at("norm.num_batches_tracked").item<std::int64_t>() == 1);
  REQUIRE(close(ema.state().at("norm.running_mean"), 0.5 * net->norm->running_mean));
  REQUIRE(close(ema.state().at("norm.running_var"), 0.5 + 0.5 * net->norm->running_var));
  REQUIRE(ema.state().size() == net->named_parameters().size() + net->named_buffers().size());
}

TEST_CASE("ema: every kind of tensor is averaged or copied and swapped in and back") {
  KindsImpl module;
  fm::Ema ema(module, 0.75, false);
  triple(module);
  ema.update();
  const auto own = wide(fm::state_dict(module));
  const auto averages = wide(ema.state());
  REQUIRE(averages.size() == own.size());
  REQUIRE(own.size() == 16);
  for (const auto& [name, average] : averages) {
    INFO(name);
    const bool copied = name == "bools" || name == "integers";
    // From 1 to 3: 0.75 + 0.25 * 3, also of the complex ones: 0.75 (1 + i) + 0.25 (3 + 3 i).
    REQUIRE(close(average, copied ? own.at(name) : own.at(name) / 2, 1e-12, 0));
  }
  REQUIRE(ema.state().at("half").scalar_type() == torch::kFloat);
  REQUIRE(ema.state().at("bfloat16").scalar_type() == torch::kFloat);
  REQUIRE(ema.state().at("float8").scalar_type() == torch::kFloat);
  REQUIRE(ema.state().at("complex").scalar_type() == torch::kComplexFloat);
  REQUIRE(ema.state().at("double").scalar_type() == torch::kDouble);
  REQUIRE(ema.state().at("channels_last").is_contiguous(torch::MemoryFormat::ChannelsLast));
  {
    const auto scope = ema.swap_in();
    const fm::StateDict inside = fm::state_dict(module);
    const auto values = wide(inside);
    for (const auto& [name, average] : averages) {
      INFO(name);
      REQUIRE(close(values.at(name), average, 0, 0));  // 1.5 is a number of every dtype
    }
    REQUIRE(inside.at("half").scalar_type() == torch::kHalf);
    REQUIRE(inside.at("float8").scalar_type() == torch::kFloat8_e4m3fn);
  }
  const fm::StateDict after = fm::state_dict(module);
  const auto values = wide(after);
  for (const auto& [name, value] : own) {
    INFO(name);
    REQUIRE(close(values.at(name), value, 0, 0));
  }
  REQUIRE(after.at("first_view").is_alias_of(after.at("second_view")));
  REQUIRE(after.at("expanded_buffer").stride(0) == 0);
  triple(module);
  ema.update();  // on the averages, not on what was swapped
  REQUIRE(close(ema.state().at("scalar"), on_device::full({}, 0.75 * 1.5 + 0.25 * 9)));
}

TEST_CASE("ema: averages of half precision do not stand still") {
  for (const auto type : {torch::kBFloat16, torch::kHalf}) {
    auto net = on_device::module(torch::nn::Linear(torch::nn::LinearOptions(1, 1).bias(false)));
    net->to(type);
    const torch::NoGradGuard no_grad;
    net->weight.fill_(1);
    fm::Ema ema(*net, 0.999, false);
    net->weight.fill_(2);
    for (int i = 0; i < 1000; ++i) ema.update();
    const double average = 2 - std::pow(0.999, 1000);
    REQUIRE(ema.state().at("weight").item<double>() == Approx(average).epsilon(1e-4));
    const auto scope = ema.swap_in();
    REQUIRE(net->weight.scalar_type() == type);
    REQUIRE(net->weight.item<double>() == Approx(average).epsilon(4e-3));
  }
}

TEST_CASE("ema: a scope keeps what is averaged of half precision but for what is written in it") {
  auto net = on_device::module(torch::nn::Linear(torch::nn::LinearOptions(2, 1).bias(false)));
  net->to(torch::kBFloat16);
  const torch::NoGradGuard no_grad;
  net->weight.fill_(1);
  fm::Ema ema(*net, 0.999, false);
  net->weight.fill_(2);
  ema.update();
  const at::Tensor average = ema.state().at("weight").clone();
  REQUIRE(average[0][0].item<double>() == Approx(1.001).epsilon(1e-6));
  {
    const auto scope = ema.swap_in();
    net->weight[0][1] = 5;
    REQUIRE(ema.state().at("weight")[0][1].item<double>() == 5);
  }
  REQUIRE(net->weight[0][1].item<double>() == 2);
  REQUIRE(torch::equal(ema.state().at("weight")[0][0], average[0][0]));
  REQUIRE(ema.state().at("weight")[0][1].item<double>() == 5);
}

TEST_CASE("ema: infinite and NaN entries of a buffer are copied and the others averaged") {
  struct MaskedImpl : torch::nn::Module {
    MaskedImpl() {
      mask = register_buffer("mask", doubles({-infinity, 1, 1, infinity, nan_value}));
      frozen = register_parameter("frozen", doubles({-infinity, 1}), false);
    }
    at::Tensor mask, frozen;
  } module;
  fm::Ema ema(module, 0.75, false);
  module.mask.copy_(doubles({-infinity, 5, -infinity, 4, 3}));
  module.frozen.copy_(doubles({-infinity, 5}));
  ema.update();
  REQUIRE(torch::equal(ema.state().at("mask"), doubles({-infinity, 2, -infinity, 4, 3})));
  REQUIRE(torch::equal(ema.state().at("frozen"), doubles({-infinity, 2})));
  module.mask.copy_(doubles({infinity, 6, 1, 8, 3}));
  ema.update();
  REQUIRE(torch::equal(ema.state().at("mask"), doubles({infinity, 3, 1, 5, 3})));
}

TEST_CASE("ema: scopes lie in one another and end in any order") {
  PairImpl module;
  fm::Ema ema(module, 0.75, false);
  module.set(5.0, -2.0, 11.0);
  ema.update();
  const at::Tensor own = doubles({5.0, -2.0});
  const at::Tensor average = doubles({2.0, 1.0});
  std::optional<fm::Ema::Scope> first, second, third;
  first.emplace(ema);
  second.emplace(ema);
  REQUIRE(ema.swapped_in());
  REQUIRE(close(module.weight, average));
  REQUIRE(close(ema.state().at("weight"), average));
  SECTION("the inner one first") {
    second.reset();
    REQUIRE(close(module.weight, average));
    first.reset();
  }
  SECTION("the outer one first") {
    first.reset();
    REQUIRE(close(module.weight, average));
    second.reset();
  }
  SECTION("with the module's own weights inside") {
    third.emplace(ema.swap_out());
    REQUIRE(close(module.weight, own));
    REQUIRE(!ema.swapped_in());
    {
      const auto again = ema.swap_in();
      REQUIRE(close(module.weight, average));
    }
    REQUIRE(close(module.weight, own));
    second.reset();
    REQUIRE(close(module.weight, own));
    third.reset();
    REQUIRE(close(module.weight, average));
    first.reset();
  }
  SECTION("moved") {
    fm::Ema::Scope moved = std::move(*first);
    first.reset();
    second = std::move(moved);
    REQUIRE(close(module.weight, average));
    second.reset();
    REQUIRE(close(module.weight, average));  // `moved` has the other one now
    third.emplace(std::move(moved));
    third.reset();
  }
  REQUIRE(close(module.weight, own));
  REQUIRE(close(module.count, doubles({11.0})));
  REQUIRE(close(ema.state().at("weight"), average));
  REQUIRE(!ema.swapped_in());
}

TEST_CASE("ema: a scope outlives the averages and moves with them") {
  PairImpl module;
  std::optional<fm::Ema> ema(std::in_place, module, 0.75, false);
  module.set(5.0, -2.0, 11.0);
  ema->update();
  {
    const auto scope = ema->swap_in();
    fm::Ema moved = std::move(*ema);
    ema.reset();
    REQUIRE(moved.swapped_in());
    REQUIRE(close(moved.state().at("weight"), doubles({2.0, 1.0})));
    REQUIRE(close(module.weight, doubles({2.0, 1.0})));
  }
  REQUIRE(close(module.weight, doubles({5.0, -2.0})));
}

TEST_CASE("ema: training in a scope is refused and loading goes into it") {
  PairImpl module;
  fm::Ema ema(module, 0.75, false);
  fm::StateDict state;
  state.insert("weight", doubles({7.0, 8.0}));
  state.insert("count", doubles({9.0}));
  {
    const auto scope = ema.swap_in();
    require_error<fm::OptionError>([&] { ema.update(); }, "the averages are in the module");
    REQUIRE(ema.updates() == 0);
    ema.load(state, 4);
    REQUIRE(close(module.weight, doubles({7.0, 8.0})));
  }
  REQUIRE(close(module.weight, doubles({1.0, 2.0})));
  REQUIRE(close(ema.state().at("weight"), doubles({7.0, 8.0})));
  REQUIRE(ema.updates() == 4);
  state.at("weight").fill_(0);  // they are copies
  REQUIRE(close(ema.state().at("weight"), doubles({7.0, 8.0})));
}

TEST_CASE("ema: what is written into buffers in a scope is their average") {
  PairImpl module;
  fm::Ema ema(module, 0.75, false);
  {
    const auto scope = ema.swap_in();
    module.count.fill_(-4);
    module.weight.set_data(doubles({6.0, 6.0}));
  }
  REQUIRE(close(module.count, doubles({10.0})));
  REQUIRE(close(ema.state().at("count"), doubles({-4.0})));
  REQUIRE(close(ema.state().at("weight"), doubles({6.0, 6.0})));
  REQUIRE(close(module.weight, doubles({1.0, 2.0})));
}

TEST_CASE("ema: averages of an older version in half precision and complex ones are loaded") {
  KindsImpl module;
  fm::Ema ema(module, 0.75, false);
  fm::StateDict state = fm::state_dict(module);
  REQUIRE(state.at("half").scalar_type() == torch::kHalf);
  state.insert_or_assign("complex", on_device::full({3}, c10::complex<double>(4, -2)));
  ema.load(state, 1);
  REQUIRE(ema.state().at("half").scalar_type() == torch::kFloat);
  REQUIRE(at::view_as_real(ema.state().at("complex"))[1][1].item<double>() == -2);
  state.insert_or_assign("complex", on_device::ones({3}));
  require_error<fm::CheckpointError>([&] { ema.load(state, 2); }, "average of complex is Float");
  REQUIRE(ema.updates() == 1);
}

TEST_CASE("ema: a module that has changed is refused and the change is named") {
  struct OpenImpl : torch::nn::Module {
    OpenImpl() {
      layer = register_module("layer", torch::nn::Linear(2, 2));
      buffer = register_buffer("buffer", on_device::zeros({3}));
      to(test_device());
    }
    torch::nn::Linear layer{nullptr};
    at::Tensor buffer;
  } module;
  fm::Ema ema(module, 0.5, false);
  const std::string on = " on " + test_device().str();
  std::string change;
  SECTION("a parameter is added") {
    module.register_parameter("extra", on_device::ones({2}));
    change = "parameter extra was added";
  }
  SECTION("a buffer is added") {
    module.layer->register_buffer("extra", on_device::ones({2}));
    change = "buffer layer.extra was added";
  }
  SECTION("a layer is removed") {
    module.unregister_module("layer");
    change = "parameter layer.bias was removed";
  }
  SECTION("a layer is replaced") {
    module.layer = module.replace_module("layer", on_device::module(torch::nn::Linear(2, 2)));
    change = "parameter layer.weight is another tensor";
  }
  SECTION("another dtype") {
    module.to(torch::kDouble);
    change = "parameter layer.weight is Double [2, 2]" + on + ", it was Float [2, 2]" + on;
  }
  SECTION("another shape of a parameter") {
    module.layer->bias.set_data(on_device::ones({4}));
    change = "parameter layer.bias is Float [4]" + on + ", it was Float [2]" + on;
  }
  SECTION("another shape of a buffer") {
    module.buffer.resize_({7});
    change = "buffer buffer is Float [7]";
  }
  const fm::StateDict state = fm::state_dict(module);
  require_error<fm::OptionError>([&] { ema.update(); }, change);
  require_error<fm::OptionError>([&] { static_cast<void>(ema.state()); }, change);
  require_error<fm::OptionError>([&] { ema.load(state, 1); }, change);
  require_error<fm::OptionError>([&] { const auto scope = ema.swap_in(); }, change);
  REQUIRE(!ema.swapped_in());
  REQUIRE(ema.updates() == 0);
}

TEST_CASE("ema: a module that changes within a scope gets its own weights back") {
  PairImpl module;
  fm::Ema ema(module, 0.5, false);
  module.set(3, 4, 5);
  std::optional<fm::Ema::Scope> scope(std::in_place, ema);
  SECTION("another dtype") { module.to(torch::kFloat); }
  SECTION("a parameter more") { module.register_parameter("extra", on_device::ones({2})); }
  SECTION("another size") { module.weight.set_data(on_device::ones({5})); }
  REQUIRE_NOTHROW(scope.reset());
  REQUIRE(close(module.weight, doubles({3, 4})));
  REQUIRE(close(module.count, doubles({5})));
}

TEST_CASE("ema: two over one module take turns in it and end in any order") {
  PairImpl module;
  fm::Ema a(module, 0.5, false), b(module, 0.75, false);
  module.set(5.0, -2.0, 12.0);
  a.update();
  b.update();
  const at::Tensor own = doubles({5.0, -2.0});
  const at::Tensor of_a = doubles({3.0, 0.0});
  const at::Tensor of_b = doubles({2.0, 1.0});
  std::optional<fm::Ema::Scope> first(a.swap_in()), second(b.swap_in());
  REQUIRE(close(module.weight, of_b));
  REQUIRE(b.swapped_in());
  REQUIRE(!a.swapped_in());
  SECTION("the inner one first") {
    second.reset();
    REQUIRE(close(module.weight, of_a));
    REQUIRE(a.swapped_in());
    first.reset();
  }
  SECTION("the outer one first") {
    first.reset();
    REQUIRE(close(module.weight, of_b));
    second.reset();
  }
  SECTION("with the module's own weights inside") {
    {
      const auto out = a.swap_out();
      REQUIRE(close(module.weight, own));
    }
    REQUIRE(close(module.weight, of_b));
    second.reset();
    first.reset();
  }
  SECTION("what is written belongs to those that are in the module") {
    module.count.fill_(-4);
    first.reset();
    second.reset();
    REQUIRE(close(a.state().at("count"), doubles({11.0})));
    REQUIRE(close(b.state().at("count"), doubles({-4.0})));
  }
  REQUIRE(close(module.weight, own));
  REQUIRE(close(module.count, doubles({12.0})));
  REQUIRE(close(a.state().at("weight"), of_a));
  REQUIRE(close(b.state().at("weight"), of_b));
}

TEST_CASE(
    "ema: while another's averages are in the module none are updated and new ones begin as ever") {
  PairImpl module;
  fm::Ema a(module, 0.5, false), b(module, 0.5, false);
  module.set(5.0, -2.0, 12.0);
  a.update();
  {
    const auto scope = a.swap_in();
    require_error<fm::OptionError>([&] { b.update(); }, "another Ema's");
    const fm::Ema later(module, 0.5, false);
    REQUIRE(close(later.state().at("weight"), doubles({5.0, -2.0})));
    REQUIRE(close(module.weight, doubles({3.0, 0.0})));
    const auto out = b.swap_out();
    b.update();
  }
  REQUIRE(b.updates() == 1);
  REQUIRE(close(b.state().at("weight"), doubles({3.0, 0.0})));
}

TEST_CASE("ema: averages of a part and of the whole know of each other") {
  auto net =
      on_device::module(torch::nn::Sequential(torch::nn::Linear(1, 1), torch::nn::Linear(1, 1)));
  const at::NoGradGuard no_grad;
  const auto fill = [&](double value) {
    for (const at::Tensor& p : net->parameters()) p.fill_(value);
  };
  const auto value = [&](std::size_t i) { return net->parameters()[i].item<double>(); };
  fill(1);
  fm::Ema whole(*net, 0.5, false), part(*net->ptr(0), 0.75, false);
  fill(5);
  whole.update();
  part.update();
  std::optional<fm::Ema::Scope> of_part(part.swap_in()), of_whole(whole.swap_in());
  REQUIRE(value(0) == 3);
  of_part.reset();
  REQUIRE(value(0) == 3);
  require_error<fm::OptionError>([&] { part.update(); }, "end the scope");
  of_whole.reset();
  of_part.emplace(part.swap_in());
  REQUIRE(value(0) == 2);
  REQUIRE(value(2) == 5);
  require_error<fm::OptionError>([&] { whole.update(); }, "end the scope");
  of_part.reset();
  REQUIRE(value(0) == 5);
}

TEST_CASE("ema: threads swap averages of modules of their own at the same time") {
  std::vector<std::thread> threads;
  std::atomic<int> right = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&right, i] {
      PairImpl module;
      fm::Ema ema(module, 0.5, false);
      module.set(i, i, i);
      for (int n = 0; n < 50; ++n) {
        const auto scope = ema.swap_in();
        right += close(module.weight, doubles({1.0, 2.0})) ? 1 : 0;
      }
      right += close(module.weight, doubles({1.0 * i, 1.0 * i})) ? 1 : 0;
    });
  }
  for (std::thread& each : threads) each.join();
  REQUIRE(right == 4 * 51);
}

TEST_CASE("ema: what is made and swapped under InferenceMode is averaged and trained afterwards") {
  for (const auto type : {torch::kBFloat16, torch::kFloat, torch::kDouble}) {
    auto net = on_device::module(torch::nn::Linear(torch::nn::LinearOptions(1, 1).bias(false)));
    net->to(type);
    const auto fill = [&](double value) {
      const at::NoGradGuard no_grad;
      net->weight.fill_(value);
    };
    fill(1);
    std::optional<fm::Ema> ema;
    fm::StateDict state;
    {
      const c10::InferenceMode inference;
      ema.emplace(*net, 0.5, false);
      state = ema->state();
      ema->load(state, 0);
      const auto scope = ema->swap_in();
      REQUIRE(net->weight.item<double>() == 1);
      state = ema->state();
      ema->load(state, 0);
    }
    fill(3);
    ema->update();
    REQUIRE(ema->state().at("weight").item<double>() == 2);
    const auto scope = ema->swap_in();
    net->forward(on_device::ones({1, 1}, type)).sum().backward();
    REQUIRE(net->weight.grad().item<double>() == 1);
  }
}

TEST_CASE("ema: sparse tensors are refused by name", "[sparse]") {
  auto net = on_device::module(torch::nn::Linear(2, 2));
  net->register_buffer("graph", on_device::eye(2).to_sparse());
  require_error<fm::OptionError>([&] { fm::Ema ema(*net); }, "the module's graph is sparse");
}
