#include "flowmatch/model/velocity_model.hpp"

#include <torch/script.h>

#include "tests/support/networks.hpp"

namespace {

using networks::Conditional;
using networks::ConditionalImpl;
using networks::Mlp;
using networks::MlpImpl;
using Tensors = std::tuple<at::Tensor, at::Tensor>;

struct TakesPair {
  at::Tensor operator()(const at::Tensor& x, const at::Tensor&, const Tensors& c) const {
    return x + std::get<0>(c) * std::get<1>(c);
  }
};
struct EitherWay {
  at::Tensor operator()(const at::Tensor& x, const at::Tensor&) const { return x; }
  at::Tensor operator()(const at::Tensor& x, const at::Tensor&, const at::Tensor& c) const {
    return x + c;
  }
};
struct ReturnsText {
  std::string operator()(const at::Tensor&, const at::Tensor&) const { return ""; }
};
/// A module whose forward has no time.
struct NoTimeImpl : torch::nn::Module {
  at::Tensor forward(const at::Tensor& x) { return x; }
};
TORCH_MODULE(NoTime);

at::Tensor free_function(const at::Tensor& x, const at::Tensor& t) { return x * t.unsqueeze(1); }

}  // namespace

TEST_CASE("velocity_model: the concept knows every way to hold a model") {
  auto lambda = [](const at::Tensor& x, const at::Tensor&) { return x; };
  auto labelled = [](const at::Tensor& x, const at::Tensor&, const at::Tensor&) { return x; };
  static_assert(fm::VelocityModel<MlpImpl> && fm::VelocityModel<MlpImpl&>);
  static_assert(fm::VelocityModel<Mlp> && fm::VelocityModel<Mlp&> && fm::VelocityModel<const Mlp>);
  static_assert(fm::VelocityModel<std::shared_ptr<MlpImpl>>);
  static_assert(fm::VelocityModel<std::reference_wrapper<MlpImpl>>);
  static_assert(fm::VelocityModel<std::reference_wrapper<Mlp>>);
  static_assert(fm::VelocityModel<decltype(lambda)> && fm::VelocityModel<decltype(lambda)&>);
  static_assert(fm::VelocityModel<std::function<at::Tensor(at::Tensor, at::Tensor)>>);
  static_assert(fm::VelocityModel<decltype(&free_function)>);
  static_assert(fm::VelocityModel<Conditional, at::Tensor>);
  static_assert(fm::VelocityModel<std::shared_ptr<ConditionalImpl>, at::Tensor>);
  static_assert(fm::VelocityModel<decltype(labelled), at::Tensor>);
  static_assert(fm::VelocityModel<TakesPair, Tensors>);
  static_assert(fm::VelocityModel<EitherWay> && fm::VelocityModel<EitherWay, at::Tensor>);

  static_assert(!fm::VelocityModel<Mlp, at::Tensor>);
  static_assert(!fm::VelocityModel<Conditional>);
  static_assert(!fm::VelocityModel<decltype(labelled)>);
  static_assert(!fm::VelocityModel<decltype(lambda), at::Tensor>);
  static_assert(!fm::VelocityModel<TakesPair> && !fm::VelocityModel<TakesPair, at::Tensor>);
  static_assert(!fm::VelocityModel<NoTime> && !fm::VelocityModel<torch::nn::Linear>);
  static_assert(!fm::VelocityModel<ReturnsText>);
  static_assert(!fm::VelocityModel<torch::jit::Module>);
  static_assert(!fm::VelocityModel<int> && !fm::VelocityModel<at::Tensor>);
  CHECK(lambda(on_device::ones({1}), on_device::ones({1})).item<float>() == 1);
  CHECK(labelled(on_device::ones({1}), {}, {}).item<float>() == 1);
}

TEST_CASE("velocity_model: only modules are trainable") {
  auto lambda = [](const at::Tensor& x, const at::Tensor&) { return x; };
  static_assert(fm::TrainableModel<Mlp> && fm::TrainableModel<MlpImpl&>);
  static_assert(fm::TrainableModel<std::shared_ptr<MlpImpl>>);
  static_assert(fm::TrainableModel<std::reference_wrapper<MlpImpl>>);
  static_assert(fm::TrainableModel<Conditional, at::Tensor> && !fm::TrainableModel<Conditional>);
  static_assert(!fm::TrainableModel<decltype(lambda)> && !fm::ModuleHandle<decltype(lambda)>);
  static_assert(fm::ModuleHandle<NoTime> && !fm::TrainableModel<NoTime>);
  static_assert(!fm::ModuleHandle<at::Tensor> && !fm::ModuleHandle<std::shared_ptr<int>>);
  CHECK(lambda(on_device::ones({1}), {}).item<float>() == 1);
}

TEST_CASE("velocity_model: a module answers the same however it is held") {
  torch::manual_seed(0);
  const std::shared_ptr<MlpImpl> shared = std::make_shared<MlpImpl>();
  const at::Tensor x = on_device::randn({4, 2});
  const at::Tensor t = on_device::rand({4});
  const at::Tensor expected = shared->forward(x, t);
  Mlp holder(shared);
  std::shared_ptr<MlpImpl> pointer = shared;
  std::reference_wrapper<MlpImpl> wrapper(*shared);
  std::reference_wrapper<Mlp> wrapped_holder(holder);
  const Mlp constant(shared);
  CHECK(at::equal(fm::call_model(*shared, x, t), expected));
  CHECK(at::equal(fm::call_model(holder, x, t), expected));
  CHECK(at::equal(fm::call_model(pointer, x, t), expected));
  CHECK(at::equal(fm::call_model(wrapper, x, t), expected));
  CHECK(at::equal(fm::call_model(wrapped_holder, x, t), expected));
  CHECK(at::equal(fm::call_model(constant, x, t), expected));
  CHECK(&fm::module_of(*shared) == shared.get());
  CHECK(&fm::module_of(holder) == shared.get());
  CHECK(&fm::module_of(pointer) == shared.get());
  CHECK(&fm::module_of(wrapper) == shared.get());
}

TEST_CASE("velocity_model: callables answer as they are") {
  const at::Tensor x = on_device::ones({2, 3});
  const at::Tensor t = on_device::tensor({0.25F, 0.5F});
  int calls = 0;
  auto counting = [&](const at::Tensor& y, const at::Tensor&) {
    ++calls;
    return 2 * y;
  };
  CHECK(at::equal(fm::call_model(counting, x, t), 2 * x));
  CHECK(calls == 1);
  auto* function = &free_function;
  CHECK(at::equal(fm::call_model(function, x, t), x * t.unsqueeze(1)));
  std::function<at::Tensor(at::Tensor, at::Tensor)> erased = counting;
  CHECK(at::equal(fm::call_model(erased, x, t), 2 * x));
  CHECK(calls == 2);
}

TEST_CASE("velocity_model: conditions of any type reach the model") {
  const at::Tensor x = on_device::ones({2, 3});
  const at::Tensor t = on_device::rand({2});
  EitherWay both;
  CHECK(at::equal(fm::call_model(both, x, t), x));
  CHECK(at::equal(fm::call_model(both, x, t, at::Tensor(x * 4)), 5 * x));
  TakesPair pair;
  CHECK(at::equal(fm::call_model(pair, x, t, Tensors{2 * x, 3 * x}), 7 * x));
  Conditional network;
  network->eval();
  const at::Tensor images = on_device::randn({2, 1, 4, 4});
  const at::Tensor labels = on_device::tensor({3, 7});
  CHECK(at::equal(fm::call_model(network, images, t, labels), network->forward(images, t, labels)));
}

TEST_CASE("velocity_model: a TorchScript module in a lambda is a model") {
  torch::jit::Module script("field");
  script.register_parameter("scale", on_device::full({1}, 3.0), false);
  script.define("def forward(self, x, t):\n    return self.scale * x * t.unsqueeze(1)\n");
  auto model = [script](const at::Tensor& x, const at::Tensor& t) mutable {
    return script.forward({x, t}).toTensor();
  };
  static_assert(fm::VelocityModel<decltype(model)> && !fm::TrainableModel<decltype(model)>);
  const at::Tensor x = on_device::randn({2, 3});
  const at::Tensor t = on_device::rand({2});
  CHECK(close(fm::call_model(model, x, t), 3 * x * t.unsqueeze(1), 1e-6, 1e-6));
}

TEST_CASE("velocity_model: objects are kept by address and handles by value") {
  static_assert(std::is_same_v<fm::model_storage_t<MlpImpl&>, std::reference_wrapper<MlpImpl>>);
  static_assert(std::is_same_v<fm::model_storage_t<Mlp&>, Mlp>);
  static_assert(std::is_same_v<fm::model_storage_t<const Mlp&>, Mlp>);
  static_assert(std::is_same_v<fm::model_storage_t<Mlp>, Mlp>);
  static_assert(
      std::is_same_v<fm::model_storage_t<std::shared_ptr<MlpImpl>&>, std::shared_ptr<MlpImpl>>);
  static_assert(std::is_same_v<fm::model_storage_t<EitherWay&>, EitherWay>);
  MlpImpl module;
  fm::model_storage_t<MlpImpl&> kept(module);
  CHECK(&fm::module_of(kept) == &module);
}

TEST_CASE("velocity_model: a module computes in its parameters' dtype, buffers only without them") {
  struct OwnImpl : torch::nn::Module {
    OwnImpl(bool parameters) {
      inner = register_module("inner", std::make_shared<torch::nn::Module>());
      inner->register_buffer("table", on_device::zeros({1}, torch::kDouble));
      if (parameters) inner->register_parameter("w", on_device::zeros({1}));
    }
    at::Tensor forward(const at::Tensor& x, const at::Tensor&) { return x; }
    std::shared_ptr<torch::nn::Module> inner{};
  };
  const at::Tensor x = on_device::zeros({2, 2}, torch::kHalf);
  OwnImpl with(true), without(false);
  CHECK(fm::call_model(with, x, on_device::zeros({2})).dtype() == at::kFloat);
  CHECK(fm::call_model(without, x, on_device::zeros({2})).dtype() == at::kDouble);
}

namespace {

/// A condition that the library knows nothing about.
struct Noted {
  at::Tensor values;
};
/// x + t + c, all in the dtypes that it was given.
struct AddImpl : torch::nn::Module {
  explicit AddImpl(at::ScalarType dtype) { register_parameter("w", on_device::zeros({1}, dtype)); }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t, const at::Tensor& c) {
    seen = {x.scalar_type(), t.scalar_type(), c.scalar_type()};
    return x + t.unsqueeze(1) + c;
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t, const Noted& c) {
    return forward(x, t, c.values);
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t,
                     const std::tuple<at::Tensor, std::tuple<at::Tensor>, Noted>& c) {
    return forward(x, t, std::get<0>(c)) + std::get<0>(std::get<1>(c)) + std::get<2>(c).values;
  }
  std::vector<at::ScalarType> seen{};
};
TORCH_MODULE(Add);

}  // namespace

TEST_CASE("velocity_model: a module gets times and floating conditions in its own dtype") {
  using Types = std::vector<at::ScalarType>;
  const at::Tensor x = on_device::ones({2, 1});
  const at::Tensor late = on_device::full({2}, 0.5, at::kDouble);
  const at::Tensor condition = on_device::full({2, 1}, 0.25, at::kDouble);
  Add single(at::kFloat), half(at::kBFloat16), wide(at::kDouble);
  CHECK(at::equal(fm::call_model(single, x, late, condition), on_device::full({2, 1}, 1.75F)));
  CHECK(single->seen == Types{at::kFloat, at::kFloat, at::kFloat});
  fm::call_model(half, x, late, condition.to(at::kFloat));
  CHECK(half->seen == Types{at::kBFloat16, at::kFloat, at::kBFloat16});
  fm::call_model(wide, x, late.to(at::kFloat), condition.to(at::kFloat));
  CHECK(wide->seen == Types{at::kDouble, at::kDouble, at::kDouble});

  // Whole numbers and a type of the user's own stay; tuples are looked into.
  fm::call_model(single, x, late, on_device::ones({2, 1}, at::kLong));
  CHECK(single->seen == Types{at::kFloat, at::kFloat, at::kLong});
  fm::call_model(single, x, late, Noted{condition});
  CHECK(single->seen == Types{at::kFloat, at::kFloat, at::kDouble});
  const std::tuple<at::Tensor, std::tuple<at::Tensor>, Noted> nested{
      condition, {condition}, {on_device::ones({2, 1})}};
  CHECK(at::equal(fm::call_model(single, x, late, nested), on_device::full({2, 1}, 3.0F)));

  // What is no module gets all as it is.
  auto lambda = [](const at::Tensor&, const at::Tensor& t, const at::Tensor& c) {
    return (t.unsqueeze(1) + c).to(at::kDouble) * (c.scalar_type() == at::kDouble ? 1 : 0);
  };
  CHECK(at::equal(fm::call_model(lambda, x, late, condition),
                  on_device::full({2, 1}, 0.75, at::kDouble)));
}

TEST_CASE("velocity_model: empty holders and pointers are refused with the remedy") {
  const at::Tensor x = on_device::ones({2, 2});
  const at::Tensor t = on_device::zeros({2});
  Mlp holder{nullptr};
  std::shared_ptr<MlpImpl> shared;
  std::unique_ptr<MlpImpl> unique;
  MlpImpl* pointer = nullptr;
  Mlp* to_holder = &holder;
  torch::nn::AnyModule any;
  const auto refused = [](const auto& f) {
    require_error<fm::OptionError>(f, "construct the network first");
  };
  refused([&] { fm::call_model(holder, x, t); });
  refused([&] { fm::call_model(shared, x, t); });
  refused([&] { fm::call_model(unique, x, t); });
  refused([&] { fm::call_model(pointer, x, t); });
  refused([&] { fm::call_model(to_holder, x, t); });
  refused([&] { static_cast<void>(fm::module_of(holder)); });
  refused([&] { static_cast<void>(fm::detail::held_module(any)); });
}

namespace {
at::Tensor plain_function(const at::Tensor& x, const at::Tensor&) { return -x; }
}  // namespace

TEST_CASE("velocity_model: a plain function is kept as a pointer to it") {
  static_assert(
      std::is_same_v<fm::model_storage_t<decltype((plain_function))>, decltype(&plain_function)>);
  static_assert(fm::VelocityModel<fm::model_storage_t<decltype((plain_function))>>);
  auto* const model = &plain_function;
  CHECK(fm::call_model(model, on_device::ones({2, 1}), on_device::zeros({2})).sum().item<float>() ==
        -2);
}
