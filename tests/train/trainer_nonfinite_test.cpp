// What training does where loss or gradient become NaN or infinite.

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "flowmatch/train/trainer.hpp"
#include "tests/train/training.hpp"

using namespace training;

namespace {

fm::TensorBatches<at::Tensor> images_with_nan(std::int64_t bad) {
  at::Tensor x_1 = fm::Rng(4).normal({24, 1, 4, 4});
  x_1[bad * 8] = nan_value;
  return fm::TensorBatches(x_1, torch::arange(24) % 10, 8, {.shuffle = false});
}

/// 0, with a gradient of 0 times infinity.
const auto spoiling = [](auto& model, const fm::Noised<>& noised) {
  return (fm::call_model(model, noised.x_t, noised.t) * 0).square().sum().sqrt();
};

/// The mean squared error, but NaN at the given calls; remembers the times that it was given.
struct Flaky {
  std::vector<int> bad;
  std::shared_ptr<std::vector<at::Tensor>> times = std::make_shared<std::vector<at::Tensor>>();
  template <class Model>
  at::Tensor operator()(Model& model, const fm::Noised<>& noised) const {
    const int call = static_cast<int>(times->size());
    times->push_back(noised.t);
    const at::Tensor loss = fm::PredictionLoss<>()(model, noised);
    return std::count(bad.begin(), bad.end(), call) > 0 ? loss * nan_value : loss;
  }
};

fm::TrainOptions rolling_back(const std::filesystem::path& folder) {
  fm::TrainOptions options{.epochs = 2, .ema_decay = 0.9, .asynchronous = false};
  options.checkpoints = folder;
  options.checkpoint_every = 2;
  options.on_nonfinite = fm::OnNonfinite::roll_back;
  return options;
}

}  // namespace

TEST_CASE("trainer: an infinite gradient stops training before it changes a weight") {
  const TemporaryFolder folder;
  networks::Mlp net = mlp();
  const auto before = values(*net);
  fm::Trainer trainer(net, noisifier(),
                      fm::TrainOptions{.asynchronous = false, .checkpoints = folder.path()},
                      spoiling);
  require_error<fm::TrainingError>([&] { trainer.fit(batches()); },
                                   "the gradient became NaN or infinite at step 0;");
  REQUIRE(same_bits(values(*net), before));
  REQUIRE(fm::list_checkpoints(folder.path()).empty());
}

TEST_CASE("trainer: NaN that stops training leaves BatchNorm's statistics as they were") {
  networks::Conditional net = conditional();
  fm::Trainer trainer(net, noisifier(), {.asynchronous = false});
  std::vector<at::Tensor> after_step;
  const auto remember = [&](const fm::StepReport&) { after_step = values(*net); };
  require_error<fm::TrainingError>([&] { trainer.fit(images_with_nan(2), remember); },
                                   "the loss became NaN or infinite at step 2;");
  REQUIRE(same_bits(values(*net), after_step));
}

TEST_CASE("trainer: a step that is skipped changes nothing and counts as a step") {
  networks::Mlp net = mlp();
  fm::Trainer trainer(
      net, noisifier(),
      {.ema_decay = 0.5, .on_nonfinite = fm::OnNonfinite::skip, .asynchronous = false});
  std::vector<std::vector<at::Tensor>> weights;
  std::vector<double> losses;
  const fm::TrainResult result = trainer.fit(with_nan(3), [&](const fm::StepReport& r) {
    weights.push_back(values(*net));
    losses.push_back(*r.loss);
    REQUIRE(r.skipped == (r.step >= 4 ? 1 : 0));
    REQUIRE(std::isfinite(*r.grad_norm) == (r.step != 4));
  });
  REQUIRE(result.steps == 6);
  REQUIRE(result.skipped == 1);
  REQUIRE(same_bits(weights[3], weights[2]));
  REQUIRE(!same_bits(weights[4], weights[3]));
  REQUIRE(trainer.ema()->updates() == 5);
  REQUIRE(std::isnan(losses[3]));
  double sum = 0;
  for (const double loss : losses) sum += std::isnan(loss) ? 0 : loss;
  REQUIRE(result.loss == Approx(sum / 5));
}

TEST_CASE("trainer: skipping keeps NaN out of BatchNorm's statistics and checkpoints") {
  const TemporaryFolder folder;
  networks::Conditional net = conditional();
  fm::Trainer trainer(
      net, noisifier(),
      {.accumulate = 2, .on_nonfinite = fm::OnNonfinite::skip, .checkpoints = folder.path()});
  REQUIRE(trainer.fit(images_with_nan(1)).skipped == 1);
  for (const at::Tensor& value : values(*net))
    REQUIRE(torch::isfinite(value.to(torch::kDouble)).all().item<bool>());
  const auto found = fm::latest_checkpoint(folder.path());
  REQUIRE(found->manifest.get_int("skipped") == 1);
  fm::TrainOptions options{.accumulate = 2, .checkpoints = folder.path()};
  fm::Trainer resumed(conditional(2), noisifier(), options);
  REQUIRE(resumed.resume());
  REQUIRE(resumed.fit(images_with_nan(1)).skipped == 1);
}

TEST_CASE("trainer: where every step would be skipped training stops after fifty") {
  fm::Trainer trainer(mlp(), noisifier(),
                      fm::TrainOptions{.epochs = 20, .on_nonfinite = fm::OnNonfinite::skip},
                      spoiling);
  require_error<fm::TrainingError>([&] { trainer.fit(batches()); },
                                   "at step 49, the last of 50 steps in a row");
}

TEST_CASE("trainer: a fault that passes is rolled back and other noise is drawn") {
  const TemporaryFolder folder;
  networks::Mlp net = mlp();
  const Flaky flaky{{5}};
  fm::Trainer trainer(net, noisifier(), rolling_back(folder.path()), flaky);
  std::vector<std::int64_t> steps;
  const fm::TrainResult result = trainer.fit(batches(), [&](const fm::StepReport& r) {
    steps.push_back(r.step);
    REQUIRE(r.rollbacks == (steps.size() > 5 ? 1 : 0));
  });
  REQUIRE(steps == std::vector<std::int64_t>{1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 11, 12});
  REQUIRE(result.steps == 12);
  REQUIRE(result.rollbacks == 1);
  REQUIRE(trainer.ema()->updates() == 12);
  REQUIRE(!torch::equal(flaky.times->at(4), flaky.times->at(6)));  // the fifth step, twice
  REQUIRE(fm::latest_checkpoint(folder.path())->manifest.get_int("rollbacks") == 1);
}

TEST_CASE("trainer: a run that has rolled back resumes bit for bit") {
  const TemporaryFolder folder;
  networks::Mlp through = mlp(1, true);
  at::manual_seed(7);
  fm::Trainer(through, noisifier(), rolling_back(folder.path() / "a"), Flaky{{5}}).fit(batches());

  networks::Mlp cut = mlp(1, true);
  at::manual_seed(7);
  const auto options = rolling_back(folder.path() / "b");
  train_until_killed(fm::Trainer(cut, noisifier(), options, Flaky{{5}}), batches(), 9);
  networks::Mlp resumed = mlp(2, true);
  fm::Trainer trainer(resumed, noisifier(), options, Flaky{});
  REQUIRE(trainer.resume());
  REQUIRE(trainer.steps() == 8);
  REQUIRE(trainer.fit(batches()).rollbacks == 1);
  REQUIRE(same_bits(*resumed, *through));
}

TEST_CASE("trainer: the first steps roll back to where training began") {
  const TemporaryFolder folder;
  networks::Mlp net = mlp();
  fm::Trainer trainer(net, noisifier(), rolling_back(folder.path()), Flaky{{0, 2}});
  std::vector<std::int64_t> steps;
  const fm::TrainResult result =
      trainer.fit(batches(), [&](const fm::StepReport& r) { steps.push_back(r.step); });
  REQUIRE(steps == std::vector<std::int64_t>{1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  REQUIRE(result.rollbacks == 2);
}

TEST_CASE("trainer: a fault that stays ends the run after three rollbacks") {
  const TemporaryFolder folder;
  networks::Mlp net = mlp();
  fm::Trainer trainer(net, noisifier(), rolling_back(folder.path()));
  require_error<fm::TrainingError>([&] { trainer.fit(with_nan(3)); },
                                   "at step 3, also after going back 3 times");
  REQUIRE(fm::latest_checkpoint(folder.path())->manifest.get_int("step") == 2);
  trainer.save();  // what it holds is whole
  REQUIRE(fm::latest_checkpoint(folder.path())->manifest.get_int("step") == 3);
}

TEST_CASE("trainer: faults with a new checkpoint between them do not add up") {
  const TemporaryFolder folder;
  fm::Trainer trainer(mlp(), noisifier(), rolling_back(folder.path()), Flaky{{3, 7, 11, 15}});
  const fm::TrainResult result = trainer.fit(batches());  // from 2, 4, 6 and 8 on once more
  REQUIRE(result.steps == 12);
  REQUIRE(result.rollbacks == 4);
}

TEST_CASE("trainer: each policy's error carries the step that it gave up at") {
  using fm::OnNonfinite;
  const auto gives_up_at = [](OnNonfinite policy, std::vector<int> bad) -> std::int64_t {
    const TemporaryFolder folder;
    fm::TrainOptions options = rolling_back(folder.path());
    options.on_nonfinite = policy;
    options.epochs = 20;
    fm::Trainer trainer(mlp(), noisifier(), options, Flaky{std::move(bad)});
    try {
      trainer.fit(batches());
    } catch (const fm::TrainingError& error) {
      REQUIRE(std::string(error.what()).find("at step " + std::to_string(error.step())) !=
              std::string::npos);
      REQUIRE(fm::latest_checkpoint(folder.path())->manifest.get_int("step") <= error.step());
      return error.step();
    }
    return -1;
  };
  std::vector<int> fifty(50);
  std::iota(fifty.begin(), fifty.end(), 7);
  REQUIRE(gives_up_at(OnNonfinite::stop, {7}) == 7);
  REQUIRE(gives_up_at(OnNonfinite::skip, fifty) == 56);
  REQUIRE(gives_up_at(OnNonfinite::roll_back, {7, 9, 11, 13}) == 7);  // again and again from 6
}

TEST_CASE("trainer: bfloat16 trains float32 weights about as well") {
  const auto loss = [](fm::Precision precision) {
    networks::Mlp net = mlp();
    fm::Trainer trainer(net, noisifier(),
                        {.epochs = 20, .learning_rate = 1e-2, .precision = precision});
    const double value = trainer.fit(batches()).loss;
    for (const at::Tensor& p : net->parameters()) {
      REQUIRE(p.scalar_type() == torch::kFloat);
      REQUIRE(p.grad().scalar_type() == torch::kFloat);
    }
    return value;
  };
  const double exact = loss(fm::Precision::float32);
  const double rounded = loss(fm::Precision::bfloat16);
  REQUIRE(rounded != exact);
  REQUIRE(rounded == Approx(exact).epsilon(0.02));
  REQUIRE(loss(fm::Precision::float16) == Approx(exact).epsilon(0.02));
}

TEST_CASE("trainer: float16 lowers the loss scale where gradients overflow and goes on") {
  const TemporaryFolder folder;
  const auto large = [](auto& model, const fm::Noised<>& noised) {
    return 1000 * fm::PredictionLoss<>()(model, noised);
  };
  networks::Mlp net = mlp();
  fm::Trainer trainer(net, noisifier(),
                      fm::TrainOptions{.epochs = 4,
                                       .precision = fm::Precision::float16,
                                       .asynchronous = false,
                                       .checkpoints = folder.path()},
                      large);
  std::vector<at::Tensor> before = values(*net);
  std::int64_t skipped = 0;
  const fm::TrainResult result = trainer.fit(batches(), [&](const fm::StepReport& r) {
    REQUIRE(same_bits(values(*net), before) == (r.skipped > skipped));
    skipped = r.skipped;
    before = values(*net);
  });
  REQUIRE(result.skipped >= 1);
  REQUIRE(result.skipped < 16);
  const fm::Manifest manifest = fm::latest_checkpoint(folder.path())->manifest;
  REQUIRE(manifest.get_double("loss_scale") ==
          65536 * std::pow(0.5, static_cast<double>(result.skipped)));
  REQUIRE(manifest.get_int("skipped") == result.skipped);

  fm::Trainer bad(mlp(), noisifier(), {.precision = fm::Precision::float16, .asynchronous = false});
  require_error<fm::TrainingError>([&] { bad.fit(with_nan(3)); }, "the loss became NaN");
}

TEST_CASE("trainer: a loss scale that has come down resumes bit for bit") {
  const auto large = [](auto& model, const fm::Noised<>& noised) {
    return 1000 * fm::PredictionLoss<>()(model, noised);
  };
  const TemporaryFolder folder;
  fm::TrainOptions options{.epochs = 4, .precision = fm::Precision::float16};
  networks::Mlp through = mlp();
  const fm::TrainResult result = fm::Trainer(through, noisifier(), options, large).fit(batches());
  REQUIRE(result.skipped >= 1);

  options.checkpoints = folder.path() / "run";
  train_until_killed(fm::Trainer(mlp(), noisifier(), options, large), batches(), 20);
  REQUIRE(fm::latest_checkpoint(options.checkpoints)->manifest.get_double("loss_scale") < 65536);
  networks::Mlp resumed = mlp(2);
  fm::Trainer trainer(resumed, noisifier(), options, large);
  REQUIRE(trainer.resume());
  REQUIRE(trainer.steps() == 18);
  REQUIRE(trainer.fit(batches()).skipped == result.skipped);
  REQUIRE(same_bits(*resumed, *through));
}

TEST_CASE("trainer: an error of the source in the midst of a step leaves the step's beginning") {
  struct Breaking : fm::TensorBatches<at::Tensor> {
    using fm::TensorBatches<at::Tensor>::TensorBatches;
    std::optional<fm::Batch<at::Tensor>> next() {
      if (++count == 4) throw Broken();
      return fm::TensorBatches<at::Tensor>::next();
    }
    int count = 0;
  };
  const TemporaryFolder folder;
  const at::Tensor images = fm::Rng(4).normal({40, 1, 4, 4});
  Breaking source(images, torch::arange(40) % 10, 8);
  networks::Conditional net = conditional();
  fm::Trainer trainer(net, noisifier(), {.accumulate = 2, .checkpoints = folder.path()});
  std::vector<at::Tensor> after_step;
  const auto remember = [&](const fm::StepReport&) { after_step = values(*net); };
  REQUIRE_THROWS_AS(trainer.fit(source, remember), Broken);
  REQUIRE(same_bits(values(*net), after_step));
  const auto found = fm::latest_checkpoint(folder.path());
  REQUIRE(found->manifest.get_int("step") == 1);
  REQUIRE(found->manifest.get_int("batch") == 2);
  trainer.fit(source);  // and the run goes on
  REQUIRE(trainer.steps() == 3);
}

TEST_CASE("trainer: looking at faults now and then ends with the bits of looking at each step") {
  // What runs on a GPU: bad steps are masked, a flag remembers them, and each third step is looked
  // at.
  struct Outcome {
    std::vector<at::Tensor> weights{};
    fm::TrainResult result{};
    std::vector<std::int64_t> looked_at{};
    std::string error{};
  };
  const auto run = [](bool asynchronous, fm::OnNonfinite policy, std::vector<int> bad,
                      fm::Precision precision, const fm::OptimizerFactory& optimizer) {
    const TemporaryFolder folder;
    fm::TrainOptions options = rolling_back(folder.path());
    options.checkpoint_every = 4;
    options.on_nonfinite = policy;
    options.asynchronous = asynchronous;
    options.log_every = 3;
    options.precision = precision;
    options.optimizer = optimizer;
    options.ema_decay = 0;
    networks::Mlp net = mlp();
    fm::Trainer trainer(net, noisifier(), options, Flaky{std::move(bad)});
    Outcome outcome;
    try {
      outcome.result = trainer.fit(batches(), [&](const fm::StepReport& r) {
        REQUIRE(r.loss.has_value() == r.grad_norm.has_value());
        if (r.loss) outcome.looked_at.push_back(r.step);
      });
    } catch (const fm::TrainingError& error) {
      outcome.error = error.what();
      REQUIRE(error.step() == 6);
    }
    outcome.weights = values(*net);
    return outcome;
  };
  for (const auto& optimizer : {fm::adam(), fm::adamw({.amsgrad = true}), fm::sgd(0.9)}) {
    for (const auto precision : {fm::Precision::float32, fm::Precision::float16}) {
      for (const auto policy : {fm::OnNonfinite::skip, fm::OnNonfinite::roll_back}) {
        INFO(optimizer.description << ", " << fm::precision_text(precision) << ", policy "
                                   << static_cast<int>(policy));
        const Outcome now = run(false, policy, {6}, precision, optimizer);
        const Outcome later = run(true, policy, {6}, precision, optimizer);
        REQUIRE(same_bits(later.weights, now.weights));
        REQUIRE(later.result.steps == now.result.steps);
        REQUIRE(later.result.skipped == now.result.skipped);
        REQUIRE(later.result.rollbacks == now.result.rollbacks);
        REQUIRE(later.result.loss == now.result.loss);
        REQUIRE(now.result.skipped + now.result.rollbacks >= 1);
        for (const std::int64_t step : later.looked_at) REQUIRE(step % 3 == 0);
        REQUIRE(later.looked_at.size() < now.looked_at.size());
      }
    }
  }
  const Outcome now = run(false, fm::OnNonfinite::stop, {6}, fm::Precision::float32, fm::adam());
  const Outcome later = run(true, fm::OnNonfinite::stop, {6}, fm::Precision::float32, fm::adam());
  REQUIRE(now.error.find("the loss became NaN or infinite at step 6;") == 0);
  REQUIRE(later.error.find("the loss or gradient became NaN or infinite at step 6;") == 0);
}

TEST_CASE("trainer: BatchNorm's statistics of a masked step are put back") {
  const auto run = [](bool asynchronous) {
    networks::Conditional net = conditional();
    fm::TrainOptions options{.epochs = 2, .on_nonfinite = fm::OnNonfinite::skip};
    options.asynchronous = asynchronous;
    REQUIRE(fm::Trainer(net, noisifier(), options).fit(images_with_nan(1)).skipped == 2);
    return values(*net);
  };
  REQUIRE(same_bits(run(true), run(false)));
}

TEST_CASE("trainer: an epoch without a good step has no loss and no score") {
  const TemporaryFolder folder;
  fm::TrainOptions options{.epochs = 2, .on_nonfinite = fm::OnNonfinite::skip};
  options.checkpoints = folder.path();
  fm::Trainer trainer(mlp(), noisifier(), options, Flaky{{0, 1, 2, 3, 4, 5}});
  std::vector<double> losses;
  const fm::TrainResult result = trainer.fit(batches(), [&](const fm::EpochReport& r) {
    losses.push_back(r.loss);
    trainer.save(r.loss);
  });
  REQUIRE(std::isnan(losses[0]));
  REQUIRE(losses[1] > 0);
  REQUIRE(result.loss == losses[1]);
  REQUIRE(fm::best_checkpoint(folder.path())->manifest.get_int("step") == 12);
  REQUIRE(std::isnan(trainer.fit(batches()).loss));  // which makes no step
}

TEST_CASE("trainer: looking now and then a fault is met at the log interval and before a save") {
  for (const bool saving : {false, true}) {
    const TemporaryFolder folder;
    fm::TrainOptions options{.asynchronous = true, .log_every = saving ? 50 : 2};
    options.checkpoints = folder.path();
    options.checkpoint_every = saving ? 2 : 0;
    std::int64_t steps = 0;
    fm::Trainer trainer(mlp(), noisifier(), options);
    REQUIRE_THROWS_AS(trainer.fit(with_nan(0), [&](const fm::StepReport& r) { steps = r.step; }),
                      fm::TrainingError);
    CHECK(steps == 1);  // of six
    CHECK(fm::list_checkpoints(folder.path()).empty());
  }
}

TEST_CASE("trainer: looking now and then, a stop between two looks meets the faults before it") {
  const auto run = [](bool asynchronous, fm::OnNonfinite policy,
                      const fm::OptimizerFactory& optimizer, bool with_folder) {
    const TemporaryFolder folder;
    fm::TrainOptions options{.optimizer = optimizer, .on_nonfinite = policy};
    options.asynchronous = asynchronous;
    if (with_folder) options.checkpoints = folder.path();
    networks::Mlp net = mlp();
    fm::Trainer trainer(net, noisifier(), options);
    return trainer.fit(with_nan(1), stop_after(4));
  };
  for (const auto& optimizer : {fm::adam(), fm::sgd()}) {
    for (const bool with_folder : {false, true}) {
      INFO(optimizer.description << ", folder " << with_folder);
      require_error<fm::TrainingError>(
          [&] { run(true, fm::OnNonfinite::stop, optimizer, with_folder); },
          "became NaN or infinite at step 1;");
      const fm::TrainResult now = run(false, fm::OnNonfinite::skip, optimizer, with_folder);
      const fm::TrainResult later = run(true, fm::OnNonfinite::skip, optimizer, with_folder);
      CHECK(now.skipped == 1);
      CHECK(later.skipped == 1);
      CHECK(later.steps == 4);
      CHECK(later.loss == now.loss);
    }
  }
  // Going back, the run ends at the checkpoint that it went back to.
  const TemporaryFolder folder;
  fm::TrainOptions options = rolling_back(folder.path());
  options.asynchronous = true;
  fm::Trainer trainer(mlp(), noisifier(), options, Flaky{{3}});
  const fm::TrainResult result = trainer.fit(batches(), stop_after(5));
  CHECK(result.rollbacks == 1);
  CHECK(result.steps == 5);  // the look before the checkpoint after step 4 had found it
  options.checkpoints = folder.path() / "other";
  fm::Trainer second(mlp(), noisifier(), options, Flaky{{2}});
  const fm::TrainResult back = second.fit(batches(), stop_after(3));
  CHECK(back.rollbacks == 1);
  CHECK(back.steps == 2);
  CHECK(back.stopped);
  CHECK(second.fit(batches()).steps == 12);
}

TEST_CASE("trainer: looking now and then, scattered bad steps do not count as if in a row") {
  const auto run = [](bool asynchronous) {
    fm::TrainOptions options{.on_nonfinite = fm::OnNonfinite::skip};
    options.asynchronous = asynchronous;
    options.log_every = 200;
    at::Tensor x_1 = points(160);
    for (std::int64_t i = 0; i < 160; i += 3) x_1[i].fill_(nan_value);
    networks::Mlp net = mlp();
    fm::Trainer trainer(net, noisifier(), options);
    CHECK(trainer.fit(fm::TensorBatches(x_1, 1, {.shuffle = false})).skipped == 54);
    return values(*net);
  };
  CHECK(same_bits(run(true), run(false)));
}

TEST_CASE(
    "trainer: looking now and then, BatchNorm's statistics of the fault that stops are not kept") {
  const TemporaryFolder folder;
  networks::Conditional net = conditional();
  fm::TrainOptions options{.checkpoints = folder.path()};
  options.asynchronous = true;
  fm::Trainer trainer(net, noisifier(), options);
  REQUIRE_THROWS_AS(trainer.fit(images_with_nan(1)), fm::TrainingError);
  for (const at::Tensor& value : values(*net))
    CHECK(torch::isfinite(value.to(torch::kDouble)).all().item<bool>());
  trainer.save();
  CHECK(fm::list_checkpoints(folder.path()).size() == 1);
}

TEST_CASE(
    "trainer: looking now and then, a layer that is first used after bad steps learns alike") {
  struct LateImpl : torch::nn::Module {
    LateImpl() {
      first = register_module("first", torch::nn::Linear(2, 2));
      later = register_module("later", torch::nn::Linear(2, 2));
      to(test_device());
    }
    at::Tensor forward(const at::Tensor& x, const at::Tensor&) {
      const at::Tensor y = first->forward(x);
      const bool used = ++calls > 6 && (calls < 12 || calls % 2 == 0);
      return used ? y + later->forward(x) : y;
    }
    torch::nn::Linear first{nullptr}, later{nullptr};
    int calls = 0;
  };
  const auto run = [](bool asynchronous) {
    at::manual_seed(1);
    LateImpl net;
    fm::TrainOptions options{.learning_rate = 1e-2, .on_nonfinite = fm::OnNonfinite::skip};
    options.asynchronous = asynchronous;
    at::Tensor x_1 = points(24);
    for (const int bad : {1, 3, 13, 14}) x_1[bad].fill_(nan_value);
    fm::Trainer trainer(net, noisifier(), options);
    CHECK(trainer.fit(fm::TensorBatches(x_1, 1, {.shuffle = false})).skipped == 4);
    return values(net);
  };
  const auto later = run(true);
  CHECK(same_bits(later, run(false)));
  for (const at::Tensor& value : later) CHECK(torch::isfinite(value).all().item<bool>());
}
