#include "flowmatch/model/modules_in.hpp"

#include <memory>

#include "flowmatch/model/adapters.hpp"
#include "flowmatch/model/eval_scope.hpp"
#include "flowmatch/model/rescheduled.hpp"
#include "tests/support/networks.hpp"

namespace {

using networks::Mlp;
using networks::MlpImpl;

template <class M>
std::vector<const torch::nn::Module*> found(M&& model) {
  std::vector<const torch::nn::Module*> modules;
  fm::for_each_module(model, [&](torch::nn::Module& m) { modules.push_back(&m); });
  return modules;
}

/// An adapter as users write them: of one model, and of two.
template <class M>
struct Halved {
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& t) {
    return fm::call_model(inside, x, t) / 2;
  }
  M& model() { return inside; }
  M inside;
};
struct Guided {
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& t) {
    return 2 * fm::call_model(strong, x, t) - fm::call_model(weak, x, t);
  }
  auto models() { return std::tie(strong, weak); }
  Mlp strong;
  Halved<Mlp> weak;
};

template <class A, class B>
struct Pair {
  at::Tensor operator()(const at::Tensor& x, const at::Tensor&) { return x; }
  auto models() { return std::tie(a, b); }
  A a;
  B b;
};
/// Several models by a tuple of its own, and as many as there are.
struct Both {
  at::Tensor operator()(const at::Tensor& x, const at::Tensor&) { return x; }
  auto& models() { return all; }
  std::tuple<Mlp, Halved<Mlp>> all;
};
struct Ensemble {
  at::Tensor operator()(const at::Tensor& x, const at::Tensor&) { return x; }
  std::vector<Mlp>& models() { return all; }
  std::vector<Mlp> all;
};
/// A module around one that it does not register.
struct WrappingImpl : torch::nn::Module {
  explicit WrappingImpl(Mlp net) : inside(std::move(net)) {}
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t) { return inside->forward(x, t); }
  Mlp& model() { return inside; }
  Mlp inside;
};
/// A module whose layers happen to bear these names.
struct NamesakeImpl : torch::nn::Module {
  NamesakeImpl() {
    register_module("model", model);
    register_module("models", models);
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor&) { return models->forward(model(x)); }
  torch::nn::Linear model{2, 2};
  torch::nn::Sequential models{torch::nn::Linear(2, 2)};
};

/// Has a float8 scale, an integer table and then weights, of which the last decide.
struct MixedImpl : torch::nn::Module {
  MixedImpl() {
    register_parameter("scale", on_device::ones({1}).to(at::kFloat8_e4m3fn), false);
    register_parameter("table", on_device::ones({1}, torch::kLong), false);
    register_module("layer", on_device::module(torch::nn::Linear(2, 2)));
  }
};

}  // namespace

TEST_CASE("modules_in: a module is found however it is held") {
  Mlp holder;
  const torch::nn::Module* const module = holder.get();
  const std::vector<const torch::nn::Module*> once = {module};
  std::shared_ptr<MlpImpl> shared = holder.ptr();
  const auto unique = std::make_unique<Mlp>(holder);
  MlpImpl* const plain = holder.get();
  torch::nn::AnyModule any(holder);
  CHECK(found(*holder) == once);
  CHECK(found(holder) == once);
  CHECK(found(shared) == once);
  CHECK(found(plain) == once);
  CHECK(found(unique) == once);
  CHECK(found(any) == once);
  CHECK(found(std::ref(*holder)) == once);
  CHECK(found(std::ref(holder)) == once);
  CHECK(found(std::make_shared<Mlp>(holder)) == once);
  CHECK(found([holder](const at::Tensor& x, const at::Tensor&) { return x; }).empty());
  // All of these are models.
  const at::Tensor x = on_device::randn({3, 2});
  const at::Tensor t = on_device::rand({3});
  const at::Tensor v = holder->forward(x, t);
  CHECK(at::equal(fm::call_model(plain, x, t), v));
  CHECK(at::equal(fm::call_model(unique, x, t), v));
  CHECK(at::equal(fm::call_model(any, x, t), v));
}

TEST_CASE("modules_in: modules are found in adapters, adapters of adapters and pointers to them") {
  Mlp holder, other;
  const std::vector<const torch::nn::Module*> once = {holder.get()};
  fm::VelocityFromX1 from_x_1(holder, fm::CondOTScheduler{});
  fm::VelocityFromEpsilon by_address(*holder, fm::CosineScheduler{});
  fm::Rescheduled straight(by_address, fm::CosineScheduler{}, fm::CondOTScheduler{});
  Halved<decltype(straight)> halved{straight};
  CHECK(found(from_x_1) == once);
  CHECK(found(by_address) == once);
  CHECK(found(straight) == once);
  CHECK(found(halved) == once);
  CHECK(found(std::ref(halved)) == once);
  CHECK(found(&halved) == once);
  CHECK(found(std::make_shared<decltype(halved)>(halved)) == once);
  Guided guided{holder, {other}};
  CHECK(found(guided) == std::vector<const torch::nn::Module*>{holder.get(), other.get()});
  CHECK(fm::parameters_in(guided).size() == 2 * holder->parameters().size());
  Guided same{holder, {holder}};
  CHECK(fm::parameters_in(same).size() == holder->parameters().size());
  CHECK(fm::parameters_in(straight).front().is_same(holder->parameters().front()));
}

TEST_CASE("modules_in: several models come as a tuple or a range, and in a module that wraps one") {
  Mlp one, two;
  using Found = std::vector<const torch::nn::Module*>;
  Both both{{one, {two}}};
  CHECK(found(both) == Found{one.get(), two.get()});
  Ensemble ensemble{{one, two, one}};
  CHECK(found(ensemble) == Found{one.get(), two.get(), one.get()});
  CHECK(fm::parameters_in(ensemble).size() == 2 * one->parameters().size());
  WrappingImpl wrapping(one);
  CHECK(found(wrapping) == Found{&wrapping, one.get()});
  one->train();
  wrapping.train();
  {
    const fm::EvalScope eval(wrapping);
    CHECK(!one->is_training());
  }
  CHECK(one->is_training());
  CHECK(wrapping.is_training());
  NamesakeImpl namesake;
  CHECK(found(namesake) == Found{&namesake});
  static_assert(std::is_void_v<fm::velocity_scheduler_t<NamesakeImpl>>);
  static_assert(!fm::singular_at_end<NamesakeImpl>);
}

TEST_CASE("modules_in: the placement is that of the first floating weights, or else buffers") {
  Mlp net;
  CHECK(fm::placement_of(net)->dtype == torch::kFloat);
  net->to(torch::kBFloat16);
  Halved<Mlp> halved{net};
  CHECK(fm::placement_of(halved)->dtype == torch::kBFloat16);
  CHECK(fm::placement_of(halved)->device == test_device());
  Guided guided{Mlp(), {net}};
  CHECK(fm::placement_of(guided)->dtype == torch::kFloat);
  const auto mixed = std::make_shared<MixedImpl>();
  CHECK(fm::placement_of(*mixed)->dtype == torch::kFloat);
  torch::nn::Module buffers, empty;
  buffers.register_buffer("mean", on_device::zeros({2}, torch::kDouble));
  CHECK(fm::placement_of(buffers)->dtype == torch::kDouble);
  CHECK_FALSE(fm::placement_of(empty));
  auto lambda = [](const at::Tensor& x, const at::Tensor&) { return x; };
  CHECK_FALSE(fm::placement_of(lambda));
}

TEST_CASE("modules_in: an adapter's type says along which path it is a velocity") {
  using Network = fm::VelocityFromX1<Mlp, fm::CosineScheduler>;
  using Straight = fm::Rescheduled<Network, fm::CosineScheduler, fm::CondOTScheduler>;
  static_assert(std::is_void_v<fm::velocity_scheduler_t<Mlp>>);
  static_assert(std::is_same_v<fm::velocity_scheduler_t<Network>, fm::CosineScheduler>);
  static_assert(std::is_same_v<fm::velocity_scheduler_t<Straight>, fm::CondOTScheduler>);
  static_assert(std::is_same_v<fm::velocity_scheduler_t<Halved<Network>>, fm::CosineScheduler>);
  static_assert(
      std::is_same_v<fm::velocity_scheduler_t<std::shared_ptr<Straight>>, fm::CondOTScheduler>);
  // Of several: the one that they agree on.
  static_assert(
      std::is_same_v<fm::velocity_scheduler_t<Pair<Network, Network>>, fm::CosineScheduler>);
  static_assert(std::is_same_v<fm::velocity_scheduler_t<Pair<Mlp, Network>>, fm::CosineScheduler>);
  static_assert(std::is_same_v<fm::velocity_scheduler_t<Pair<Straight, Mlp>>, fm::CondOTScheduler>);
  using Mixed = fm::velocity_scheduler_t<Pair<Network, Straight>>;
  static_assert(!std::is_void_v<Mixed> && !std::is_same_v<Mixed, fm::CosineScheduler> &&
                !std::is_same_v<Mixed, fm::CondOTScheduler>);
  static_assert(std::is_void_v<fm::velocity_scheduler_t<Ensemble>>);
  static_assert(fm::singular_at_end<Network> && fm::singular_at_end<Straight>);
  static_assert(fm::singular_at_end<Pair<Mlp, Network>> && fm::singular_at_end<Pair<Network, Mlp>>);
  static_assert(!fm::singular_at_end<Pair<Mlp, Mlp>>);
  SUCCEED();
}

TEST_CASE("modules_in: a network is called in its own dtype and with times of its precision") {
  struct Seen {
    at::ScalarType x = at::kByte, t = at::kByte;
  };
  struct RecorderImpl : torch::nn::Module {
    RecorderImpl() { register_module("layer", on_device::module(torch::nn::Linear(2, 2))); }
    at::Tensor forward(const at::Tensor& x, const at::Tensor& t) {
      seen = {x.scalar_type(), t.scalar_type()};
      return x;
    }
    Seen seen;
  };
  RecorderImpl net;
  const auto asked = [&](at::ScalarType network, at::ScalarType x, at::ScalarType t) {
    net.to(network);
    fm::call_model(net, on_device::ones({1, 2}, x), on_device::ones({1}, t));
    return std::make_pair(net.seen.x, net.seen.t);
  };
  const auto f = at::kFloat, d = at::kDouble, b = at::kBFloat16, h = at::kHalf;
  CHECK(asked(f, f, f) == std::make_pair(f, f));
  CHECK(asked(b, f, f) == std::make_pair(b, f));
  CHECK(asked(h, d, d) == std::make_pair(h, f));
  CHECK(asked(f, d, d) == std::make_pair(f, f));
  CHECK(asked(d, f, f) == std::make_pair(d, d));
  CHECK(asked(f, b, f) == std::make_pair(f, f));
}
