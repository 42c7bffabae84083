// Whose checkpoints lie in a folder: a run loses and mixes nothing of another's.

#include "flowmatch/train/saving.hpp"

#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "flowmatch/train/trainer.hpp"
#include "flowmatch/train/validation.hpp"
#include "tests/support/process.hpp"
#include "tests/support/ranks.hpp"
#include "tests/train/training.hpp"

using namespace training;
namespace fs = std::filesystem;

namespace {

fm::TrainOptions in(const fs::path& folder) {
  return {.epochs = 4, .checkpoints = folder, .checkpoint_every = 2};
}

std::vector<std::int64_t> steps_in(const fs::path& folder) {
  std::vector<std::int64_t> steps;
  for (const auto& path : fm::list_checkpoints(folder))
    steps.push_back(fm::open_checkpoint(path).manifest.get_int("step"));
  return steps;
}

using Steps = std::vector<std::int64_t>;

/// A whole run: 24 steps, of which 22 and 24 stay.
void older_run(const fs::path& folder) {
  fm::Trainer(mlp(9), noisifier(), in(folder)).fit(batches());
}

}  // namespace

TEST_CASE("saving: a new run in a folder that holds an older one's checkpoints is refused") {
  const TemporaryFolder folder;
  older_run(folder.path());
  networks::Mlp net = mlp();
  const auto before = values(*net);
  fm::Trainer trainer(net, noisifier(), in(folder.path()));
  for (const std::string remedy :
       {"another run (step-000000022)", "resume()", "another folder", "set_aside_other_runs"}) {
    require_error<fm::CheckpointError>([&] { trainer.fit(batches()); }, remedy);
  }
  require_error<fm::CheckpointError>([&] { trainer.save(1.0); }, "resume()");
  CHECK(steps_in(folder.path()) == Steps{22, 24});
  CHECK(trainer.steps() == 0);
  CHECK(same_bits(values(*net), before));
  REQUIRE(trainer.resume());  // the remedy
  CHECK(trainer.fit(batches()).steps == 24);
}

TEST_CASE("saving: on request the older run's checkpoints are set aside and stay whole") {
  const TemporaryFolder folder;
  for (int n = 1; n <= 2; ++n) {
    older_run(folder.path() / "other");
    for (const auto& path : fm::list_checkpoints(folder.path() / "other"))
      fs::rename(path, folder.path() / path.filename());
    fm::TrainOptions options = in(folder.path());
    options.set_aside_other_runs = true;
    networks::Mlp net = mlp();
    fm::Trainer trainer(net, noisifier(), options);
    trainer.fit(batches(), stop_after(5));
    CHECK(steps_in(folder.path()) == Steps{4, 5});
    CHECK(steps_in(folder.path() / ("set-aside-" + std::to_string(n))) == Steps{22, 24});
    networks::Mlp again = mlp(2);
    fm::Trainer resumed(again, noisifier(), options);
    REQUIRE(resumed.resume());
    CHECK(resumed.steps() == 5);
    CHECK(same_bits(*net, *again));
    for (const auto& path : fm::list_checkpoints(folder.path())) fs::remove_all(path);
  }
}

TEST_CASE("saving: a run that found nothing to resume is refused where another has written since") {
  const TemporaryFolder folder;
  fm::Trainer trainer(mlp(), noisifier(), in(folder.path()));
  CHECK_FALSE(trainer.resume());
  older_run(folder.path());
  require_error<fm::CheckpointError>([&] { trainer.fit(batches()); }, "another run");
  CHECK(steps_in(folder.path()) == Steps{22, 24});
}

TEST_CASE("saving: two runs of which neither sees the other's lock still mix nothing") {
  const TemporaryFolder folder;
  fm::Trainer first(mlp(), noisifier(), in(folder.path()));
  // As on a file system without locks: another run's checkpoint appears in the midst.
  older_run(folder.path() / "other");
  const auto appear = [&](const fm::StepReport& r) {
    if (r.step == 3)
      fs::rename(folder.path() / "other" / "step-000000024", folder.path() / "step-000000024");
  };
  require_error<fm::CheckpointError>([&] { first.fit(batches(), appear); }, "another run");
  CHECK(steps_in(folder.path()) == Steps{2, 24});
  CHECK(first.steps() == 4);
}

TEST_CASE("saving: while a run trains another one in its folder is refused, resumed or not") {
  const TemporaryFolder folder;
  fm::Trainer trainer(mlp(), noisifier(), in(folder.path()));
  int refused = 0;
  trainer.fit(batches(), [&](const fm::StepReport& r) {
    if (r.step != 5) return;
    fm::Trainer second(mlp(2), noisifier(), in(folder.path()));
    require_error<fm::CheckpointError>([&] { second.fit(batches()); }, "another trainer of this");
    REQUIRE(second.resume());  // reading harms nobody
    CHECK(second.steps() == 4);
    require_error<fm::CheckpointError>([&] { second.fit(batches()); }, "at this moment");
    require_error<fm::CheckpointError>([&] { second.save(); }, "at this moment");
    ++refused;
  });
  CHECK(refused == 1);
  CHECK(steps_in(folder.path()) == Steps{22, 24});
  CHECK(trainer.fit(batches()).steps == 24);  // the folder is free again, and its own
}

TEST_CASE("saving: another process in the folder is refused by its number and its end frees it") {
  if (Process::is_child()) {
    fm::Trainer(mlp(), noisifier(), in(Process::phase())).fit(batches(), [](const auto& r) {
      if constexpr (std::is_same_v<decltype(r), const fm::StepReport&>) {
        if (r.step != 5) return;
        std::puts("five");
        std::fflush(stdout);
        ::pause();
      }
    });
    return;
  }
  const TemporaryFolder folder;
  Process other(folder.path().string());
  REQUIRE(other.prints("five"));
  fm::Trainer trainer(mlp(2), noisifier(), in(folder.path()));
  REQUIRE(trainer.resume());
  require_error<fm::CheckpointError>([&] { trainer.fit(batches()); }, "(process ");
  other.send(SIGKILL);
  other.wait();
  CHECK(trainer.fit(batches()).steps == 24);
}

TEST_CASE("saving: a fault rolls back to the run's own checkpoints only") {
  const TemporaryFolder folder;
  older_run(folder.path());
  fm::TrainOptions options = in(folder.path());
  options.on_nonfinite = fm::OnNonfinite::roll_back;
  options.set_aside_other_runs = true;
  networks::Mlp net = mlp();
  fm::Trainer trainer(net, noisifier(), options);
  bool once = false;
  const fm::TrainResult result = trainer.fit(batches(), [&](const fm::StepReport& r) {
    if (r.step != 5 || once) return;
    once = true;
    const at::NoGradGuard no_grad;
    net->parameters()[0].fill_(nan_value);
  });
  CHECK(result.rollbacks == 1);
  CHECK(result.steps == 24);
  CHECK(steps_in(folder.path()) == Steps{22, 24});
  CHECK(steps_in(folder.path() / "set-aside-1") == Steps{22, 24});
}

TEST_CASE("saving: damaged ones that resume passed over are set aside before their steps repeat") {
  const TemporaryFolder folder;
  fm::TrainOptions options = in(folder.path());
  options.keep_checkpoints = 3;
  fm::Trainer(mlp(), noisifier(), options).fit(batches(), stop_after(7));  // 4, 6, 7
  fs::resize_file(folder.path() / "step-000000007" / "model.pt", 10);
  fs::resize_file(folder.path() / "step-000000006" / "manifest.txt", 10);
  fm::Trainer trainer(mlp(2), noisifier(), options);
  REQUIRE(trainer.resume());
  REQUIRE(trainer.steps() == 4);
  trainer.fit(batches(), stop_after(5));
  CHECK(steps_in(folder.path()) == Steps{4, 5});
  CHECK(fs::exists(folder.path() / "set-aside-1" / "step-000000006"));
  CHECK(fs::exists(folder.path() / "set-aside-1" / "step-000000007"));
  CHECK(fm::latest_checkpoint(folder.path())->manifest.get_int("step") == 5);
}

TEST_CASE("saving: checkpoints of older versions that name no run resume and refuse others") {
  const TemporaryFolder folder;
  older_run(folder.path());
  for (const auto& path : fm::list_checkpoints(folder.path())) {
    const fm::Manifest manifest = fm::open_checkpoint(path).manifest;
    fm::Manifest old;
    for (const auto& [key, value] : manifest.entries())
      if (key != "run") old.set(key, value);
    std::ofstream(path / "manifest.txt", std::ios::binary) << old.to_text();
  }
  fm::Trainer fresh(mlp(), noisifier(), in(folder.path()));
  require_error<fm::CheckpointError>([&] { fresh.fit(batches()); }, "another run");
  fm::Trainer trainer(mlp(), noisifier(), in(folder.path()));
  REQUIRE(trainer.resume());
  trainer.save(0.5);
  CHECK(trainer.fit(batches()).steps == 24);
  CHECK(fm::best_checkpoint(folder.path())->manifest.get_int("step") == 24);
}

TEST_CASE("saving: a refusal reaches every rank and none waits") {
  const TemporaryFolder folder;
  older_run(folder.path());
  const auto errors = ranks::run(2, [&](const ranks::ThreadRank& rank) {
    fm::Trainer trainer(mlp(), noisifier(), in(folder.path()), fm::PredictionLoss<>{}, rank);
    trainer.fit(batches());
  });
  REQUIRE_THROWS_AS(std::rethrow_exception(errors[0]), fm::CheckpointError);
  require_error<fm::CommunicationError>([&] { std::rethrow_exception(errors[1]); },
                                        "rank 0 cannot begin: " + folder.path().string());
}

TEST_CASE("saving: an error that a hook throws saves the run whatever its type") {
  const auto saved_after = [](const auto& error) {
    const TemporaryFolder folder;
    fm::TrainOptions options = in(folder.path());
    options.checkpoint_every = 0;
    fm::Trainer trainer(mlp(), noisifier(), options);
    const auto fail = [&](const fm::StepReport& r) {
      if (r.step == 3) throw error;
    };
    REQUIRE_THROWS(trainer.fit(batches(), fail));
    return steps_in(folder.path());
  };
  CHECK(saved_after(Broken()) == Steps{3});
  CHECK(saved_after(fm::CheckpointError("a hook's")) == Steps{3});
  CHECK(saved_after(fm::TrainingError("of another training", 0)) == Steps{3});
  CHECK(saved_after(fm::CommunicationError("a hook's")) == Steps{3});
  CHECK(saved_after(7) == Steps{3});
}

TEST_CASE("saving: what a hook does before a checkpoint is in it, with its score") {
  const TemporaryFolder folder;
  fm::TrainOptions options{.epochs = 3, .checkpoints = folder.path(), .keep_checkpoints = 9};
  networks::Conditional net = conditional();
  fm::Trainer trainer(net, noisifier(), options);
  std::vector<std::string> heard;
  const auto mark = fm::BeforeCheckpoint([&](const fm::EpochReport& r, auto& t) {
    heard.push_back("before " + std::to_string(r.epoch) + " " +
                    std::to_string(steps_in(folder.path()).size()));
    const at::NoGradGuard no_grad;
    t.module().norm->running_mean.fill_(static_cast<double>(r.epoch) + 40);
  });
  const std::vector<double> scores{2, 1, nan_value};
  const auto score = fm::BeforeCheckpoint(
      [&](const fm::EpochReport& r) { return scores[static_cast<std::size_t>(r.epoch)]; });
  trainer.fit(labelled_images(), mark, score, [&](const fm::EpochReport& r) {
    heard.push_back("after " + std::to_string(r.epoch) + " " +
                    std::to_string(steps_in(folder.path()).size()));
  });
  CHECK(heard == std::vector<std::string>{"before 0 0", "after 0 1", "before 1 1", "after 1 2",
                                          "before 2 2", "after 2 3"});
  const auto best = fm::best_checkpoint(folder.path());
  REQUIRE(best);
  CHECK(best->manifest.get_int("step") == 6);
  CHECK(best->manifest.get_double("score") == 1);
  CHECK(best->manifest.get_int("epoch") == 2);
  CHECK(fm::read_state_dict(best->path / "model.pt").at("norm.running_mean").item<double>() == 41);
  CHECK_FALSE(fm::latest_checkpoint(folder.path())->manifest.contains("score"));  // NaN
}

TEST_CASE("saving: a score is written where no checkpoint would be due, once") {
  const TemporaryFolder folder;
  fm::TrainOptions options{.epochs = 2, .checkpoints = folder.path(), .checkpoint_every = 100};
  fm::Trainer trainer(mlp(), noisifier(), options);
  networks::Mlp net = mlp();
  trainer.fit(batches(), fm::Validation(net, noisifier(), batches()));
  CHECK(steps_in(folder.path()) == Steps{6, 12});
  CHECK(fm::best_checkpoint(folder.path()).has_value());
}

TEST_CASE("saving: an error before an epoch's checkpoint resumes at the epoch's end") {
  const TemporaryFolder folder;
  fm::TrainOptions options{.epochs = 2, .checkpoints = folder.path()};
  networks::Mlp through = mlp();
  fm::Trainer(through, noisifier(), {.epochs = 2}).fit(batches());
  const auto broken = fm::BeforeCheckpoint([](const fm::EpochReport&) { throw Broken(); });
  fm::Trainer trainer(mlp(), noisifier(), options);
  REQUIRE_THROWS_AS(trainer.fit(batches(), broken), Broken);
  CHECK(steps_in(folder.path()) == Steps{6});
  networks::Mlp net = mlp(2);
  fm::Trainer resumed(net, noisifier(), options);
  REQUIRE(resumed.resume());
  std::vector<std::int64_t> epochs;
  resumed.fit(batches(), [&](const fm::EpochReport& r) {
    epochs.push_back(r.epoch);
    CHECK(std::isnan(r.loss) == (r.epoch == 0));  // it made no step of the first
  });
  CHECK(epochs == std::vector<std::int64_t>{0, 1});
  CHECK(same_bits(*net, *through));
}

TEST_CASE("saving: a fault does not roll back to what another run has put there since") {
  const TemporaryFolder folder;
  older_run(folder.path() / "other");
  fm::TrainOptions options = in(folder.path());
  options.on_nonfinite = fm::OnNonfinite::roll_back;
  for (const bool others : {true, false}) {
    networks::Mlp net = mlp();
    fm::Trainer trainer(net, noisifier(), options);
    const auto fit = [&] {
      trainer.fit(batches(), [&](const fm::StepReport& r) {
        if (r.step != 5) return;
        const at::NoGradGuard no_grad;
        net->parameters()[0].fill_(nan_value);
        for (const auto& path : fm::list_checkpoints(folder.path())) fs::remove_all(path);
        if (others)
          fs::copy(folder.path() / "other" / "step-000000024", folder.path() / "step-000000024");
      });
    };
    require_error<fm::CheckpointError>(fit, others ? "another run" : "to roll back to; somebody");
    fs::remove_all(folder.path() / "step-000000024");
  }
}

TEST_CASE("saving: an error before the first step writes nothing") {
  const TemporaryFolder folder;
  fm::Trainer trainer(mlp(), noisifier(), in(folder.path()));
  struct Failing : fm::TensorBatches<> {
    Failing() : fm::TensorBatches<>(batches()) {}
    std::optional<fm::Batch<>> next() { throw Broken(); }
  };
  REQUIRE_THROWS_AS(trainer.fit(Failing()), Broken);
  CHECK(steps_in(folder.path()).empty());
}

TEST_CASE("saving: an error after a scored checkpoint leaves it its score") {
  const TemporaryFolder folder;
  struct Scores {
    double before_checkpoint(const fm::EpochReport&) { return 0.25; }
    void on_epoch(const fm::EpochReport&) { throw Broken(); }
  };
  fm::Trainer trainer(mlp(), noisifier(), in(folder.path()));
  REQUIRE_THROWS_AS(trainer.fit(batches(), Scores()), Broken);
  CHECK(trainer.steps() == 6);
  CHECK(fm::latest_checkpoint(folder.path())->manifest.get("score") == "0.25");
}

TEST_CASE("saving: a step that is saved again without a score keeps the one that it has") {
  const TemporaryFolder folder;
  fm::TrainOptions options{.epochs = 4, .checkpoints = folder.path()};
  fm::Trainer trainer(mlp(), noisifier(), options);
  const std::vector<double> scores{5, 1, 4, 3};
  const auto score = fm::BeforeCheckpoint(
      [&](const fm::EpochReport& r) { return scores[static_cast<std::size_t>(r.epoch)]; });
  trainer.fit(batches(), score, [](const fm::EpochReport&, auto& t) { t.save(); });
  trainer.save();
  const auto best = fm::best_checkpoint(folder.path());
  REQUIRE(best.has_value());
  CHECK(best->manifest.get_int("step") == 12);
  CHECK(best->manifest.get("score") == "1");
  CHECK(fm::latest_checkpoint(folder.path())->manifest.get("score") == "3");
  fm::Trainer resumed(mlp(2), noisifier(), options);
  REQUIRE(resumed.resume());
  resumed.save();
  CHECK(fm::latest_checkpoint(folder.path())->manifest.get("score") == "3");
  resumed.save(0.5);
  CHECK(fm::best_checkpoint(folder.path())->manifest.get_double("score") == 0.5);
  resumed.save(nan_value);  // said to be unknown
  CHECK_FALSE(fm::latest_checkpoint(folder.path())->manifest.contains("score"));
}

TEST_CASE(
    "saving: a TrainingError of the source or the objective saves the run, one of its own does "
    "not") {
  struct Diverging : fm::TensorBatches<> {
    Diverging() : fm::TensorBatches<>(batches()) {}
    std::optional<fm::Batch<>> next() {
      if (++count == 4) throw fm::TrainingError("of another training", 7);
      return fm::TensorBatches<>::next();
    }
    int count = 0;
  };
  for (const bool asynchronous : {false, true}) {
    const TemporaryFolder folder;
    fm::TrainOptions options{.checkpoints = folder.path()};
    options.asynchronous = asynchronous;
    fm::Trainer trainer(mlp(), noisifier(), options);
    REQUIRE_THROWS_AS(trainer.fit(Diverging()), fm::TrainingError);
    CHECK(steps_in(folder.path()) == Steps{3});
    const TemporaryFolder other;
    options.checkpoints = other.path();
    const auto objective = [calls = std::make_shared<int>(0)](auto& model, const fm::Noised<>& n) {
      if (++*calls == 3) throw fm::TrainingError("of another training", 7);
      return fm::PredictionLoss<>()(model, n);
    };
    fm::Trainer second(mlp(), noisifier(), options, objective);
    REQUIRE_THROWS_AS(second.fit(batches()), fm::TrainingError);
    CHECK(steps_in(other.path()) == Steps{2});
    const TemporaryFolder brink;
    options.checkpoints = brink.path();
    fm::Trainer third(mlp(), noisifier(), options);
    REQUIRE_THROWS_AS(third.fit(with_nan(3)), fm::TrainingError);
    CHECK(steps_in(brink.path()).empty());
  }
}

TEST_CASE("saving: a relative folder is one folder wherever a hook takes the program") {
  const TemporaryFolder folder;
  fs::create_directory(folder.path() / "elsewhere");
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  fm::Trainer trainer(mlp(), noisifier(), in("run"));
  trainer.fit(batches(),
              [&](const fm::EpochReport&) { fs::current_path(folder.path() / "elsewhere"); });
  fs::current_path(before);
  CHECK(steps_in(folder.path() / "run") == Steps{22, 24});
  CHECK(fs::is_empty(folder.path() / "elsewhere"));
}
