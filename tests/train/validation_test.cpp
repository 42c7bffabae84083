#include "flowmatch/train/validation.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/test.hpp"
#include "tests/train/training.hpp"

namespace {

using training::points;

/// v = w, with a module's modes to watch.
struct ConstantImpl : torch::nn::Module {
  ConstantImpl() {
    w = register_parameter("w", on_device::full({1}, 0.5, torch::kDouble));
    dropout = register_module("dropout", torch::nn::Dropout(0.5));
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t) {
    was_training = is_training() || dropout->is_training();
    had_gradients = at::GradMode::is_enabled();
    times.push_back(t);
    return dropout->forward(w.expand_as(x));
  }
  at::Tensor w{};
  torch::nn::Dropout dropout{nullptr};
  std::vector<at::Tensor> times{};
  bool was_training = true;
  bool had_gradients = true;
};
TORCH_MODULE(Constant);

/// x_0 = 0 and t drawn: the target is x_1.
auto from_zero() {
  return fm::VelocityNoisifier(fm::LinearPath{}, fm::IndependentCoupling{fm::ConstantSource(0)});
}

fm::TensorBatches<> five_numbers() {
  return fm::TensorBatches(doubles({1, 2, 3, 4, 6}).unsqueeze(1), 2,
                           {.shuffle = false, .last_batch = fm::LastBatch::keep});
}

}  // namespace

TEST_CASE("validation: the loss is the mean over samples and not over batches") {
  Constant net;
  fm::Validation validation(net, from_zero(), five_numbers());
  // ((1 - .5)^2 + (2 - .5)^2 + (3 - .5)^2 + (4 - .5)^2 + (6 - .5)^2) / 5
  CHECK(validation() == Approx((0.25 + 2.25 + 6.25 + 12.25 + 30.25) / 5).epsilon(1e-14));
}

TEST_CASE("validation: it looks in evaluation mode without gradients and puts all back") {
  Constant net;
  net->train();
  net->dropout->eval();
  fm::Validation validation(net, from_zero(), five_numbers());
  validation();
  CHECK_FALSE(net->was_training);
  CHECK_FALSE(net->had_gradients);
  CHECK(net->is_training());
  CHECK_FALSE(net->dropout->is_training());
  CHECK(at::GradMode::is_enabled());
  CHECK_FALSE(net->w.grad().defined());
}

TEST_CASE("validation: noise and times depend on seed and batch alone") {
  Constant net;
  const auto times = [&](std::uint64_t seed) {
    net->times.clear();
    fm::Validation(net, training::noisifier(), five_numbers(), {.seed = seed})();
    return at::cat(net->times);
  };
  const at::Tensor first = times(1);
  CHECK(at::equal(times(1), first));
  CHECK_FALSE(at::equal(times(2), first));
  CHECK_FALSE(at::equal(net->times[0], net->times[1]));

  auto net2 = training::mlp();
  fm::Validation validation(net2, training::noisifier(), training::batches(), {.seed = 3});
  const double before = validation();
  CHECK(validation() == before);  // shuffled, but always the same epoch
  at::manual_seed(9);
  CHECK(validation() == before);
  {
    const at::NoGradGuard no_grad;
    net2->parameters()[0].add_(0.1);
  }
  CHECK(validation() != before);
}

TEST_CASE("validation: training ends with the same bits as without it") {
  const auto trained = [](bool validate) {
    auto net = training::conditional();
    fm::Trainer trainer(net, training::noisifier(), {.epochs = 2, .ema_decay = 0.9});
    fm::Validation validation(net, training::noisifier(), training::labelled_images(),
                              {.ema = trainer.ema()});
    at::manual_seed(5);
    if (validate) {
      trainer.fit(training::labelled_images(), validation);
    } else {
      trainer.fit(training::labelled_images());
    }
    std::vector<at::Tensor> all = training::values(*net);
    all.push_back(on_device::rand({1}));  // where the default generator stands
    return all;
  };
  CHECK(training::same_bits(trained(true), trained(false)));
}

TEST_CASE("validation: averaged weights are looked at on request") {
  Constant net;
  fm::Ema ema(*net, 0.9);
  {
    const at::NoGradGuard no_grad;
    net->w.fill_(3);
  }
  fm::Validation own(net, from_zero(), five_numbers());
  fm::Validation averaged(net, from_zero(), five_numbers(), {.ema = &ema});
  CHECK(own() == Approx((4 + 1 + 0 + 1 + 9) / 5.0));
  CHECK(averaged() == Approx((0.25 + 2.25 + 6.25 + 12.25 + 30.25) / 5));
  CHECK(net->w.item<double>() == 3);
}

TEST_CASE("validation: as a hook it reports each epoch's loss and stops early") {
  auto net = training::mlp();
  std::vector<double> losses;
  fm::Trainer trainer(net, training::noisifier(), {.epochs = 5});
  fm::Validation validation(net, training::noisifier(), training::batches(),
                            {.on_loss = [&](double loss) { losses.push_back(loss); },
                             .early_stopping = fm::EarlyStopping(1, 1000)});
  const fm::TrainResult result = trainer.fit(training::batches(), validation);
  CHECK(result.stopped);
  CHECK(result.steps == 12);  // the first loss counts as better than none
  REQUIRE(losses.size() == 2);
  CHECK(losses[1] == validation());
  CHECK(losses[0] != losses[1]);

  fm::Validation patient(net, training::noisifier(), training::batches());
  CHECK(trainer.fit(training::batches(), patient).steps == 30);
}

TEST_CASE("validation: conditions and other objectives are passed on") {
  auto net = training::conditional();
  const auto objective = [](auto& model, const fm::Noised<at::Tensor>& noised) {
    const at::Tensor v = fm::call_model(model, noised.x_t, noised.t, noised.condition);
    return (v - noised.target).abs().mean();
  };
  fm::Validation mse(net, training::noisifier(), training::labelled_images());
  fm::Validation mae(net, training::noisifier(), training::labelled_images(), {}, objective);
  CHECK(mse() > 0);
  CHECK(mae() > 0);
  CHECK(mae() != mse());
}

TEST_CASE("validation: a source without a batch is a data error and modes are put back") {
  Constant net;
  fm::Validation validation(net, from_zero(), training::PlainSource(0));
  require_error<fm::DataError>([&] { validation(); }, "no batch to validate on");
  CHECK(net->is_training());
  const at::Tensor nan = doubles({std::numeric_limits<double>::quiet_NaN()}).unsqueeze(1);
  CHECK(std::isnan(fm::Validation(net, from_zero(), fm::TensorBatches(nan, 1))()));
}

TEST_CASE("validation: a scope of the averages around it changes nothing") {
  Constant net;
  fm::Ema ema(*net, 0.5, false);
  {
    const at::NoGradGuard no_grad;
    net->w.fill_(2.5);
  }
  ema.update();  // 1.5
  fm::Validation raw(net, from_zero(), five_numbers());
  fm::Validation averaged(net, from_zero(), five_numbers(), {.ema = &ema});
  const auto loss_of = [](double w) {
    double sum = 0;
    for (const double x : {1, 2, 3, 4, 6}) sum += (x - w) * (x - w);
    return sum / 5;
  };
  CHECK(raw() == Approx(loss_of(2.5)));
  CHECK(averaged() == Approx(loss_of(1.5)));
  {
    const auto scope = ema.swap_in();
    CHECK(averaged() == Approx(loss_of(1.5)));
    CHECK(raw() == Approx(loss_of(1.5)));  // what the module has
  }
  CHECK(raw() == Approx(loss_of(2.5)));
}

TEST_CASE("validation: an epoch's checkpoint gets the loss as its score") {
  Constant net;
  fm::Validation validation(net, training::noisifier(), five_numbers());
  const double loss = validation();
  CHECK(validation.before_checkpoint({}) == loss);
  const at::NoGradGuard no_grad;
  net->w.fill_(2);
  CHECK(validation.before_checkpoint({}) != loss);
  CHECK(validation.before_checkpoint({}) == validation());
}

TEST_CASE("validation: a batch that is none of samples is a data error") {
  struct Bare {
    using condition_type = fm::NoCondition;
    at::Tensor x_1;
    std::int64_t batches_per_epoch() const { return 1; }
    void start_epoch(std::int64_t) {}
    std::optional<fm::Batch<>> next() { return fm::Batch<>{x_1}; }
  };
  for (const at::Tensor& bad : {at::Tensor(), on_device::zeros({})}) {
    Constant net;
    fm::Validation validation(net, from_zero(), Bare{bad});
    require_error<fm::DataError>([&] { validation(); }, "give it [B, …]");
  }
}
