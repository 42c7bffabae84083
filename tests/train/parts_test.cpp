// Batches in parts side by side: `TrainOptions::parallel`.

#include "flowmatch/train/parts.hpp"

#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/functional.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <vector>

#include "flowmatch/loss/pseudo_huber.hpp"
#include "flowmatch/loss/weighted.hpp"
#include "tests/support/ranks.hpp"
#include "tests/train/training.hpp"

using namespace training;

namespace {

using torch::nn::Linear, torch::nn::Sequential, torch::nn::SiLU;
constexpr std::int64_t wide = 64, many = 1024;  // worth two parts

/// A user's network: it counts its calls, and may draw.
struct Counting : networks::MlpImpl {
  explicit Counting(double noise_ = 0) : MlpImpl(2, wide), noise(noise_) {
    last = register_module(
        "last", on_device::module(torch::nn::LayerNorm(torch::nn::LayerNormOptions({2}))));
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t) {
    ++calls;
    seen = x;
    if (fails) throw std::runtime_error("forward");
    return last->forward(MlpImpl::forward(noise > 0 ? x + noise * at::randn_like(x) : x, t));
  }
  torch::nn::LayerNorm last{nullptr};
  int calls = 0;
  double noise;
  bool fails = false;
  at::Tensor seen{};
};

std::shared_ptr<Counting> counting(double noise = 0) {
  at::manual_seed(1);
  return std::make_shared<Counting>(noise);
}

fm::TensorBatches<> large() { return fm::TensorBatches(points(4 * many), many); }

template <class Model>
double trained(Model& net, std::optional<bool> parallel, fm::TrainOptions options = {}) {
  options.parallel = parallel;
  options.epochs = 2;
  options.learning_rate = 1e-2;
  fm::Trainer trainer(net, noisifier(), options);
  at::manual_seed(5);
  return trainer.fit(large()).loss;
}

template <class Model>
bool can(Model model) {
  return fm::detail::SideBySide<Model>::possible(model);
}

}  // namespace

TEST_CASE("parts: their gradients come to those of the whole batch", "[cpu]") {
  const Threads two(2);
  auto whole = counting(), parts = counting();
  // Not by Adam, which makes steps of roundings where a gradient is nearly zero.
  fm::TrainOptions options{
      .optimizer = fm::sgd(), .accumulate = 2, .clip_norm = 0.5, .ema_decay = 0.9};
  const double one = trained(whole, false, options), other = trained(parts, {}, options);
  CHECK(other == Approx(one).epsilon(1e-5));
  const auto a = values(*whole), b = values(*parts);
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(close(a[i], b[i], 1e-4, 1e-5));
  // The copies counted the calls of the other parts.
  CHECK(whole->calls == 8);
  CHECK(parts->calls == 8);
  CHECK(parts->seen.size(0) < whole->seen.size(0));
}

TEST_CASE("parts: they give the same bits each time", "[cpu]") {
  const Threads two(2);
  for (const double noise : {0.0, 0.1}) {  // what draws does so in order
    auto first = counting(noise), second = counting(noise);
    CHECK(trained(first, {}) == trained(second, {}));
    CHECK(same_bits(*first, *second));
  }
}

TEST_CASE("parts: small batches, one thread, and `parallel` = false go whole", "[cpu]") {
  const auto seen = [](int threads, std::optional<bool> parallel, std::int64_t batch) {
    const Threads some(threads);
    auto net = counting();
    fm::Trainer trainer(net, noisifier(), {.parallel = parallel});
    trainer.fit(fm::TensorBatches(points(batch), batch));
    return net->seen.size(0);
  };
  CHECK(seen(2, {}, many) == many / 2);
  CHECK(seen(2, {}, 8) == 8);
  CHECK(seen(1, {}, many) == many);
  CHECK(seen(2, false, many) == many);
}

TEST_CASE("parts: by themselves only for models and objectives of which it is sure") {
  using namespace torch::nn;
  CHECK(can(Sequential(Linear(3, 4), SiLU(), LayerNorm(LayerNormOptions({4})))));
  CHECK(can(counting()));
  CHECK(can(Sequential(Embedding(3, 4))));
  CHECK_FALSE(can(Sequential(Embedding(EmbeddingOptions(3, 4).max_norm(1)))));
  CHECK_FALSE(can(Sequential(Linear(3, 4), BatchNorm1d(4))));
  CHECK_FALSE(can(Sequential(Linear(3, 4), Dropout(0.5))));
  CHECK_FALSE(can(Sequential(Linear(3, 4), Functional([](const at::Tensor& x) { return x; }))));
  CHECK_FALSE(can(Sequential(Linear(3, 4), counting())));            // a user's layer
  CHECK_FALSE(can(std::shared_ptr<torch::nn::Module>(counting())));  // of whichever class
  struct Buffered : torch::nn::Module {
    Buffered() { register_buffer("b", at::ones(1)); }
  };
  CHECK_FALSE(can(std::make_shared<Buffered>()));
  struct Only : torch::nn::Module {
    Only() = default;
    Only(const Only&) = delete;
  };
  CHECK_FALSE(can(std::make_shared<Only>()));

  STATIC_REQUIRE(fm::mean_over_samples<fm::PredictionLoss<>>);
  STATIC_REQUIRE(fm::mean_over_samples<fm::PredictionLoss<fm::PseudoHuber>>);
  STATIC_REQUIRE(fm::mean_over_samples<fm::WeightedLoss<fm::CosmapWeight>>);
  const auto own = [](const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max(); };
  STATIC_REQUIRE_FALSE(fm::mean_over_samples<fm::PredictionLoss<decltype(own)>>);
}

TEST_CASE("parts: an objective that is no mean over samples goes whole, unless it is promised",
          "[cpu]") {
  const Threads two(2);
  const auto of = [](std::optional<bool> parallel) {
    auto net = counting();
    std::vector<std::int64_t> sizes;
    std::mutex mutex;
    const auto objective = [&](auto& model, const fm::Noised<>& n) {
      const std::lock_guard lock(mutex);
      sizes.push_back(n.x_t.size(0));
      return fm::PredictionLoss<>{}(model, n);
    };
    fm::Trainer trainer(net, noisifier(), {.parallel = parallel}, objective);
    trainer.fit(fm::TensorBatches(points(many), many));
    return sizes;
  };
  CHECK(of({}) == std::vector<std::int64_t>{many});
  CHECK(of(true) == std::vector<std::int64_t>{many / 2, many / 2});
}

TEST_CASE("parts: a part that fails ends the step, and training can go on") {
  const Threads two(2);
  auto net = counting();
  fm::Trainer trainer(net, noisifier(), {.epochs = 1});
  net->fails = true;
  CHECK_THROWS_AS(trainer.fit(large()), std::runtime_error);
  CHECK(at::get_num_threads() == 2);
  net->fails = false;
  CHECK(trainer.fit(large()).steps == 4);
}

TEST_CASE("parts: hooks have all threads") {
  const Threads two(2);
  auto net = counting();
  fm::Trainer trainer(net, noisifier(), {.epochs = 1});
  trainer.fit(large(), [](const fm::StepReport&) { CHECK(at::get_num_threads() == 2); });
}

TEST_CASE("parts: parameters that a part does not use, or two use as one, get their gradients") {
  const Threads two(2);
  struct Net : torch::nn::Module {
    Net() {
      used = register_module("used", Linear(3, 2));
      a = register_parameter("a", at::zeros({2}));
      b = register_parameter("b", at::zeros({2}));
      unused = register_parameter("unused", at::zeros({200, 200}));
    }
    at::Tensor forward(const at::Tensor& x, const at::Tensor& t) {
      return used->forward(at::cat({x, t.unsqueeze(1)}, 1)) + a + b;
    }
    Linear used{nullptr};
    at::Tensor a, b, unused;
  };
  at::manual_seed(1);
  auto net = std::make_shared<Net>();
  fm::Rng rng(1);
  const fm::Noised<> example = noisifier()(fm::Batch<>{points(many)}, rng);
  fm::detail::Parts<std::shared_ptr<Net>, fm::Noised<>> parts(net, net->parameters(), false);
  const auto loss = [](auto& model, const fm::Noised<>& n) {
    return fm::PredictionLoss<>{}(model, n);
  };
  REQUIRE(parts.of(example, loss) == 2);
  for (int i = 0; i < 2; ++i) parts(example, 2, loss, [](const at::Tensor& x) { return x; });
  const at::Tensor twice = net->a.grad().clone();
  CHECK_FALSE(net->unused.grad().defined());
  for (at::Tensor& p : net->parameters()) p.mutable_grad() = at::Tensor();
  fm::PredictionLoss<>{}(net, example).backward();
  CHECK(close(twice, 2 * net->a.grad(), 1e-5, 1e-6));
  CHECK(close(net->b.grad(), net->a.grad(), 0, 0));
}

TEST_CASE("parts: a model whose samples look at one another goes whole") {
  const Threads two(2);
  struct Centred : Counting {
    at::Tensor forward(const at::Tensor& x, const at::Tensor& t) {
      if (x.size(0) == many) threads.push_back(at::get_num_threads());
      return Counting::forward(x - x.mean(0, true), t);
    }
    std::vector<int> threads{};
  };
  at::manual_seed(1);
  const auto net = std::make_shared<Centred>();
  fm::Trainer trainer(net, noisifier(), {});
  trainer.fit(large());
  CHECK(net->seen.size(0) == many);
  CHECK(net->threads == std::vector<int>(4, 2));  // from the first step on, as after resume
}

TEST_CASE("parts: a parameter that is frozen, and trained again, meanwhile") {
  const Threads two(2);
  auto net = counting();
  at::Tensor weight = net->layers->parameters().front();
  const at::Tensor before = weight.detach().clone();
  weight.set_requires_grad(false);
  fm::Trainer trainer(net, noisifier(), {.epochs = 1});
  trainer.fit(large(), [&](const fm::StepReport& r) {
    if (r.step == 2) CHECK(at::equal(weight, before));
    weight.set_requires_grad(r.step == 2);
  });
  CHECK_FALSE(at::equal(weight, before));
}

TEST_CASE("parts: not for several ranks, who have theirs already") {
  auto net = counting();
  ranks::Meeting meeting(2);
  const fm::TrainOptions options{.parallel = true};
  fm::Updater updater(*net, options);
  const auto noisy = noisifier();
  const fm::PredictionLoss<> objective;
  const ranks::ThreadRank rank(meeting, 0);
  using Gradients = fm::StepGradients<std::shared_ptr<Counting>, decltype(noisifier()),
                                      fm::PredictionLoss<>, ranks::ThreadRank, fm::NoCondition>;
  CHECK_THROWS_AS(Gradients(net, noisy, objective, rank, updater, options), fm::OptionError);
}
