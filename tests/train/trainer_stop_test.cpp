// How training ends before its end: asked to, or by an error.

#include <fstream>
#include <limits>
#include <stop_token>
#include <string>
#include <vector>

#include "flowmatch/train/trainer.hpp"
#include "tests/train/training.hpp"

using namespace training;

namespace {

std::int64_t newest_step(const std::filesystem::path& folder) {
  const auto found = fm::latest_checkpoint(folder);
  REQUIRE(found.has_value());
  return found->manifest.get_int("step");
}

}  // namespace

TEST_CASE("trainer: a hook stops the run with a checkpoint from which it goes on") {
  const TemporaryFolder folder;
  fm::TrainOptions options{.epochs = 2, .schedule = fm::one_cycle()};
  networks::Mlp through = mlp();
  fm::Trainer(through, noisifier(), options).fit(batches());

  options.checkpoints = folder.path();
  networks::Mlp net = mlp();
  fm::Trainer trainer(net, noisifier(), options);
  int others = 0;
  const fm::TrainResult result = trainer.fit(batches(), stop_after(4), [&](const auto&) {
    ++others;  // hooks after the one that stops hear of the step too
  });
  REQUIRE(result.stopped);
  REQUIRE(result.steps == 4);
  REQUIRE(others == 4);
  REQUIRE(newest_step(folder.path()) == 4);

  networks::Mlp resumed = mlp(2);
  fm::Trainer second(resumed, noisifier(), options);
  REQUIRE(second.resume());
  REQUIRE(!second.fit(batches()).stopped);
  REQUIRE(same_bits(*resumed, *through));

  REQUIRE(trainer.fit(batches()).steps == 12);  // the first goes on from where it stands, too
  REQUIRE(same_bits(*net, *through));
}

TEST_CASE("trainer: an epoch's hook stops the run between two epochs") {
  const TemporaryFolder folder;
  fm::Trainer trainer(mlp(), noisifier(), {.epochs = 3, .checkpoints = folder.path()});
  const auto stop = [](const fm::EpochReport& r) {
    return r.epoch == 1 ? fm::Next::stop : fm::Next::proceed;
  };
  const fm::TrainResult result = trainer.fit(batches(), stop);
  REQUIRE(result.stopped);
  REQUIRE(result.steps == 12);
  REQUIRE(newest_step(folder.path()) == 12);
  REQUIRE(fm::latest_checkpoint(folder.path())->manifest.get_int("epoch") == 2);
}

TEST_CASE("trainer: to stop after the very last step is to finish") {
  fm::Trainer trainer(mlp(), noisifier(), {.epochs = 2});
  REQUIRE(!trainer.fit(batches(), stop_after(12)).stopped);
}

TEST_CASE("trainer: a stop token ends the run after the step with a checkpoint") {
  const TemporaryFolder folder;
  std::stop_source source;
  fm::Trainer trainer(mlp(), noisifier(),
                      {.epochs = 2, .checkpoints = folder.path(), .stop = source.get_token()});
  const fm::TrainResult result = trainer.fit(batches(), [&](const fm::StepReport& r) {
    if (r.step == 5) source.request_stop();
  });
  REQUIRE(result.stopped);
  REQUIRE(result.steps == 5);
  REQUIRE(newest_step(folder.path()) == 5);
  REQUIRE(fm::latest_checkpoint(folder.path())->manifest.get_int("batch") == 5);

  fm::Trainer asked_before(mlp(), noisifier(), {.epochs = 2, .stop = source.get_token()});
  REQUIRE(asked_before.fit(batches()).steps == 0);
}

TEST_CASE("trainer: a loss of NaN names the step and changes no weight") {
  const TemporaryFolder folder;
  networks::Mlp net = mlp();
  fm::Trainer trainer(net, noisifier(),
                      {.ema_decay = 0.5,
                       .asynchronous = false,
                       .checkpoints = folder.path(),
                       .checkpoint_every = 1});
  std::vector<at::Tensor> after_step;
  fm::StateDict average;
  const auto remember = [&](const fm::StepReport&) { after_step = values(*net); };
  try {
    trainer.fit(with_nan(3), remember);
    FAIL("a loss of NaN went unnoticed");
  } catch (const fm::TrainingError& error) {
    REQUIRE(error.step() == 3);
    REQUIRE(std::string(error.what()).find("NaN or infinite at step 3;") != std::string::npos);
  }
  REQUIRE(same_bits(values(*net), after_step));
  REQUIRE(trainer.steps() == 3);
  REQUIRE(trainer.ema()->updates() == 3);
  REQUIRE(newest_step(folder.path()) == 3);
  const auto stored = fm::read_state_dict(fm::latest_checkpoint(folder.path())->path / "model.pt");
  REQUIRE(same_bits(stored, fm::state_dict(*net)));
}

TEST_CASE("trainer: NaN in the second of two accumulated batches leaves the step's beginning") {
  const TemporaryFolder folder;
  networks::Mlp net = mlp();
  fm::Trainer trainer(net, noisifier(),
                      {.accumulate = 2, .asynchronous = false, .checkpoints = folder.path()});
  std::vector<at::Tensor> after_step;
  const auto remember = [&](const fm::StepReport&) { after_step = values(*net); };
  require_error<fm::TrainingError>([&] { trainer.fit(with_nan(3), remember); }, "at step 1;");
  REQUIRE(same_bits(values(*net), after_step));
  trainer.save();
  const auto found = fm::latest_checkpoint(folder.path());
  REQUIRE(found->manifest.get_int("step") == 1);
  REQUIRE(found->manifest.get_int("batch") == 2);
}

TEST_CASE("trainer: a loss of infinity stops training as well") {
  const auto infinite = [](auto& model, const fm::Noised<>& noised) {
    return fm::call_model(model, noised.x_t, noised.t).sum() *
           std::numeric_limits<double>::infinity();
  };
  fm::Trainer trainer(mlp(), noisifier(), fm::TrainOptions{}, infinite);
  require_error<fm::TrainingError>([&] { trainer.fit(batches()); }, "at step 0;");
}

TEST_CASE("trainer: a source that ends early is an error with both counts") {
  fm::Trainer trainer(mlp(), noisifier());
  require_error<fm::DataError>([&] { trainer.fit(PlainSource(4)); },
                               "the source ended after 4 batches of 6");
  REQUIRE(trainer.steps() == 4);
  fm::Trainer accumulating(mlp(), noisifier(), {.accumulate = 4});
  require_error<fm::DataError>([&] { accumulating.fit(PlainSource(5)); },
                               "the source ended after 5 batches of 6");
  REQUIRE(accumulating.steps() == 1);
}

TEST_CASE("trainer: a source without batches is an error") {
  struct Empty {
    using condition_type = fm::NoCondition;
    std::int64_t batches_per_epoch() const { return 0; }
    void start_epoch(std::int64_t) {}
    std::optional<fm::Batch<>> next() { return std::nullopt; }
  };
  fm::Trainer trainer(mlp(), noisifier());
  require_error<fm::DataError>([&] { trainer.fit(Empty{}); }, "the source has no batches");
}

TEST_CASE("trainer: after a hook or source that throws the checkpoints load and the run goes on") {
  struct Throwing : PlainSource {
    std::optional<fm::Batch<>> next() {
      if (++count == 9) throw Broken();
      return PlainSource::next();
    }
    int count = 0;
  };
  const fm::TrainOptions plain{.epochs = 2, .schedule = fm::one_cycle()};
  networks::Mlp through = mlp();
  fm::Trainer(through, noisifier(), plain).fit(batches());
  SECTION("hook") {
    const TemporaryFolder folder;
    fm::TrainOptions options = plain;
    options.checkpoints = folder.path();
    options.checkpoint_every = 2;
    networks::Mlp net = mlp();
    fm::Trainer trainer(net, noisifier(), options);
    REQUIRE_THROWS_AS(trainer.fit(batches(), break_after(5)), Broken);
    REQUIRE(newest_step(folder.path()) == 5);
    trainer.fit(batches());  // the step whose hook threw was done
    REQUIRE(same_bits(*net, *through));
  }
  SECTION("source") {
    const TemporaryFolder folder;
    fm::TrainOptions options = plain;
    options.checkpoints = folder.path();
    fm::Trainer trainer(mlp(), noisifier(), options);
    REQUIRE_THROWS_AS(trainer.fit(Throwing()), Broken);
    REQUIRE(newest_step(folder.path()) == 6);
    networks::Mlp net = mlp(2);
    fm::Trainer resumed(net, noisifier(), options);
    REQUIRE(resumed.resume());
    resumed.fit(PlainSource());
    REQUIRE(same_bits(*net, *through));
  }
}

TEST_CASE("trainer: a checkpoint folder that cannot be written shows before the first step") {
  const TemporaryFolder folder;
  std::ofstream(folder.path() / "file") << "not a folder";
  networks::Mlp net = mlp();
  const auto before = values(*net);
  fm::TrainOptions options;
  options.checkpoints = folder.path() / "file" / "run";
  fm::Trainer trainer(net, noisifier(), options);
  require_error<fm::CheckpointError>([&] { trainer.fit(batches()); }, "cannot create");
  REQUIRE(trainer.steps() == 0);
  REQUIRE(same_bits(values(*net), before));
}

TEST_CASE("trainer: a checkpoint folder that goes away stops training with its state intact") {
  const TemporaryFolder folder;
  const auto run = folder.path() / "run";
  const fm::TrainOptions plain{.epochs = 2, .schedule = fm::one_cycle()};
  networks::Mlp through = mlp();
  fm::Trainer(through, noisifier(), plain).fit(batches());

  fm::TrainOptions options = plain;
  options.checkpoints = run;
  networks::Mlp net = mlp();
  fm::Trainer trainer(net, noisifier(), options);
  const auto replace = [&](const fm::StepReport& r) {
    if (r.step != 3) return;
    std::filesystem::remove_all(run);
    std::ofstream(run) << "not a folder";
  };
  require_error<fm::CheckpointError>([&] { trainer.fit(batches(), replace); }, "cannot create");
  REQUIRE(trainer.steps() == 6);
  std::filesystem::remove(run);
  trainer.fit(batches());  // with the folder free again the run goes on
  REQUIRE(trainer.steps() == 12);
  REQUIRE(same_bits(*net, *through));
  REQUIRE(newest_step(run) == 12);
}
