#include "flowmatch/train/batch_norm.hpp"

#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include "flowmatch/coupling/independent.hpp"
#include "flowmatch/data/prefetch.hpp"
#include "flowmatch/data/tensor_batches.hpp"
#include "flowmatch/noisify/noisifier.hpp"
#include "flowmatch/path/affine.hpp"
#include "tests/support/test.hpp"

namespace {

/// A BatchNorm layer, with modes to watch; of float64.
struct NormedImpl : torch::nn::Module {
  NormedImpl() {
    norm = register_module("norm", torch::nn::BatchNorm1d(1));
    dropout = register_module("dropout", torch::nn::Dropout(0.5));
    to(test_device(), torch::kDouble);
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor&) {
    if (broken) throw std::runtime_error("broken");
    dropped = dropout->is_training();
    return norm->forward(x);
  }
  torch::nn::BatchNorm1d norm{nullptr};
  torch::nn::Dropout dropout{nullptr};
  bool broken = false, dropped = true;
};
TORCH_MODULE(Normed);

/// x_t = x_1: the layer sees the data.
auto at_the_end() {
  const auto ones = [](std::int64_t n, at::TensorOptions options, fm::Rng&) {
    return on_device::ones({n}, options);
  };
  return fm::VelocityNoisifier(fm::LinearPath{}, fm::IndependentCoupling<>{}, ones);
}

/// Batches of means 2, 4 and 9, with unbiased variances 2, 8 and 18.
fm::TensorBatches<> three_batches() {
  return fm::TensorBatches(doubles({1, 3, 2, 6, 6, 12}).unsqueeze(1), 2, {.shuffle = false});
}

}  // namespace

TEST_CASE("batch norm: statistics are the mean over the batches that are looked at") {
  Normed net;
  fm::measure_batch_norm(net, at_the_end(), three_batches());
  CHECK(close(net->norm->running_mean, doubles({5})));
  CHECK(close(net->norm->running_var, doubles({28.0 / 3})));
  fm::measure_batch_norm(net, at_the_end(), three_batches(), {.batches = 2});
  CHECK(close(net->norm->running_mean, doubles({3})));
  CHECK(close(net->norm->running_var, doubles({5})));
}

TEST_CASE("batch norm: modes, momentum and generators are as before") {
  for (const bool training : {true, false}) {
    Normed net;
    net->train(training);
    net->norm->options.momentum(0.25);
    const at::Tensor generator = at::detail::getDefaultCPUGenerator().get_state();
    fm::measure_batch_norm(net, at_the_end(), three_batches());
    CHECK_FALSE(net->dropped);
    CHECK(net->is_training() == training);
    CHECK(net->norm->is_training() == training);
    CHECK(*net->norm->options.momentum() == 0.25);
    net->broken = true;
    CHECK_THROWS_AS(fm::measure_batch_norm(net, at_the_end(), three_batches()), std::runtime_error);
    CHECK(net->norm->is_training() == training);
    CHECK(*net->norm->options.momentum() == 0.25);
    CHECK(at::equal(at::detail::getDefaultCPUGenerator().get_state(), generator));
  }
}

TEST_CASE("batch norm: averaged weights get statistics of their own") {
  Normed net;
  fm::Ema ema(*net, 0.5, false);
  fm::measure_batch_norm(net, at_the_end(), three_batches(), {.ema = &ema});
  CHECK(close(ema.state().at("norm.running_mean"), doubles({5})));
  CHECK(close(net->norm->running_mean, doubles({0})));
  ema.update();  // and are averaged on from there
  CHECK(close(ema.state().at("norm.running_mean"), doubles({2.5})));
}

TEST_CASE("batch norm: without such layers nothing happens; without batches it is an error") {
  struct PlainImpl : torch::nn::Module {
    at::Tensor forward(const at::Tensor& x, const at::Tensor&) { return x; }
  };
  auto net = std::make_shared<PlainImpl>();
  fm::measure_batch_norm(net, at_the_end(), three_batches());
  Normed normed;
  require_error<fm::OptionError>(
      [&] { fm::measure_batch_norm(normed, at_the_end(), three_batches(), {.batches = 0}); },
      "choose at least 1");
  struct Nothing {
    using condition_type = fm::NoCondition;
    std::int64_t batches_per_epoch() const { return 1; }
    void start_epoch(std::int64_t) {}
    std::optional<fm::Batch<>> next() { return std::nullopt; }
  };
  normed->norm->running_mean.fill_(7);
  require_error<fm::DataError>([&] { fm::measure_batch_norm(normed, at_the_end(), Nothing{}); },
                               "give at least one");
  CHECK(close(normed->norm->running_mean, doubles({7})));
}

TEST_CASE("batch norm: a measurement that fails leaves everything as it was") {
  struct Breaking : fm::TensorBatches<> {
    using fm::TensorBatches<>::TensorBatches;
    std::optional<fm::Batch<>> next() {
      if (++count == 3) throw std::runtime_error("broken");
      return fm::TensorBatches<>::next();
    }
    int count = 0;
  };
  const at::Tensor numbers = doubles({1, 3, 2, 6, 6, 12}).unsqueeze(1);
  for (const bool with_momentum : {true, false}) {
    Normed net;
    if (!with_momentum) net->norm->options.momentum(std::nullopt);
    net->norm->running_mean.fill_(7);
    net->norm->running_var.fill_(8);
    net->norm->num_batches_tracked.fill_(9);
    fm::Ema ema(*net, 0.5, false);
    const auto unchanged = [&] {
      CHECK(close(net->norm->running_mean, doubles({7})));
      CHECK(close(net->norm->running_var, doubles({8})));
      CHECK(net->norm->num_batches_tracked.item<std::int64_t>() == 9);
      CHECK(net->norm->options.momentum().has_value() == with_momentum);
      CHECK(net->norm->is_training());
      CHECK(close(ema.state().at("norm.running_mean"), doubles({7})));
    };
    CHECK_THROWS_AS(fm::measure_batch_norm(net, at_the_end(), Breaking(numbers, 2)),
                    std::runtime_error);
    unchanged();
    CHECK_THROWS_AS(fm::measure_batch_norm(net, at_the_end(), Breaking(numbers, 2), {.ema = &ema}),
                    std::runtime_error);
    unchanged();
    CHECK_THROWS(fm::measure_batch_norm(net, at_the_end(), fm::TensorBatches(numbers, 1)));
    unchanged();
    net->broken = true;
    CHECK_THROWS_AS(fm::measure_batch_norm(net, at_the_end(), three_batches()), std::runtime_error);
    unchanged();
  }
}

TEST_CASE("batch norm: layers that are shared or have no parameters and modules on the stack") {
  struct SharedImpl : torch::nn::Module {
    SharedImpl() {
      first = register_module(
          "first", torch::nn::BatchNorm1d(torch::nn::BatchNorm1dOptions(1).affine(false)));
      second = register_module("second", first);
      to(test_device(), torch::kDouble);
    }
    at::Tensor forward(const at::Tensor& x, const at::Tensor&) { return first->forward(x); }
    torch::nn::BatchNorm1d first{nullptr}, second{nullptr};
  };
  SharedImpl net;
  net.first->options.momentum(0.25);
  fm::measure_batch_norm(net, at_the_end(), three_batches());
  CHECK(close(net.first->running_mean, doubles({5})));
  CHECK(net.first->options.momentum() == 0.25);
}

TEST_CASE("batch norm: batches without samples do not count") {
  struct Listed {
    using condition_type = fm::NoCondition;
    std::vector<at::Tensor> all;
    std::size_t given = 0;
    std::int64_t batches_per_epoch() const { return 1; }
    void start_epoch(std::int64_t) { given = 0; }
    std::optional<fm::Batch<>> next() {
      if (given == all.size()) return std::nullopt;
      return fm::Batch<>{all[given++]};
    }
  };
  const at::Tensor none = on_device::zeros({0, 1}, torch::kDouble);
  const auto pair = [](double a, double b) { return doubles({a, b}).unsqueeze(1); };
  Normed net;
  fm::measure_batch_norm(net, at_the_end(),
                         Listed{{none, pair(1, 3), none, pair(2, 6), pair(0, 1)}}, {.batches = 2});
  CHECK(close(net->norm->running_mean, doubles({3})));
  CHECK(close(net->norm->running_var, doubles({5})));
  require_error<fm::DataError>(
      [&] {
        fm::measure_batch_norm(net, at_the_end(), Listed{{none, none}});
      },
      "with samples");
  require_error<fm::DataError>(
      [&] { fm::measure_batch_norm(net, at_the_end(), Listed{{at::Tensor()}}); }, "[B, …]");
  require_error<fm::DataError>(
      [&] {
        fm::measure_batch_norm(net, at_the_end(), Listed{{pair(7, 9), on_device::zeros({})}});
      },
      "[B, …]");
  CHECK(close(net->norm->running_mean, doubles({3})));
}

TEST_CASE("batch norm: the hook measures on sources that can only be moved") {
  struct FakeTrainer {
    Normed net{};
    decltype(at_the_end()) noisy = at_the_end();
    auto& module() { return *net; }
    const auto& noisifier() const { return noisy; }
    fm::Ema* ema() { return nullptr; }
  } trainer;
  fm::MeasureBatchNorm hook{fm::Prefetch(three_batches())};
  for (int epoch = 0; epoch < 2; ++epoch) {
    trainer.net->norm->running_mean.fill_(7);
    hook.before_checkpoint({}, trainer);
    CHECK(close(trainer.net->norm->running_mean, doubles({5})));
  }
}
