#include "examples/support/signals.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <memory>

#include "examples/support/run_main.hpp"
#include "flowmatch/loss/objective.hpp"
#include "tests/support/process.hpp"
#include "tests/train/training.hpp"

using namespace training;

namespace {

fm::TrainOptions options_in(const std::filesystem::path& folder) {
  return {.epochs = 3,
          .schedule = fm::one_cycle(),
          .ema_decay = 0.9,
          .checkpoints = folder,
          .checkpoint_every = 4};
}

/// The mean squared error; in the fifth step it says so and waits for a stop to be asked for, so
/// that the signal comes in the midst of that step.
struct Waiting {
  std::stop_token token;
  std::shared_ptr<int> calls = std::make_shared<int>(0);
  template <class Model>
  at::Tensor operator()(Model& model, const fm::Noised<>& noised) const {
    if (++*calls == 5) {
      std::cout << "in step 5" << std::endl;
      for (int i = 0; i < 2000 && !token.stop_requested(); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return fm::PredictionLoss<>()(model, noised);
  }
};

/// Trains as the programs do, and ends with their exit code.
[[noreturn]] void train_until_signal(const std::filesystem::path& folder) {
  networks::Mlp net = mlp(1, true);
  const support::StopOnSignal signals;
  fm::TrainOptions options = options_in(folder);
  options.stop = signals.token();
  fm::Trainer trainer(net, noisifier(), options, Waiting{signals.token()});
  const bool stopped = trainer.fit(batches()).stopped;
  ::_exit(stopped ? support::interrupted : support::success);
}

bool stops_within_a_second(const std::stop_token& token) {
  for (int i = 0; i < 100 && !token.stop_requested(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return token.stop_requested();
}

}  // namespace

TEST_CASE("signals: the first one asks for a stop") {
  for (const int number : {SIGINT, SIGTERM}) {
    const support::StopOnSignal signals;
    REQUIRE_FALSE(signals.token().stop_requested());
    std::raise(number);
    REQUIRE(stops_within_a_second(signals.token()));
  }
}

TEST_CASE("signals: without one there is no stop") {
  std::stop_token token;
  {
    const support::StopOnSignal signals;
    token = signals.token();
  }
  REQUIRE_FALSE(token.stop_requested());
}

TEST_CASE("signals: the second Ctrl-C ends the program with code 130") {
  const pid_t child = fork();
  if (child == 0) {
    const support::StopOnSignal signals;
    std::raise(SIGINT);
    std::raise(SIGINT);
    ::_exit(0);  // not reached
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  REQUIRE(WEXITSTATUS(status) == 130);
}

TEST_CASE("signals: Ctrl-C and SIGTERM end training after the step with a checkpoint") {
  if (Process::is_child()) train_until_signal(Process::phase());
  const Threads one(1);  // as the child has
  const TemporaryFolder alone;
  networks::Mlp through = mlp(1, true);
  fm::Trainer(through, noisifier(), options_in(alone.path())).fit(batches());
  for (const int number : {SIGINT, SIGTERM}) {
    INFO("signal " << number);
    const TemporaryFolder folder;
    Process child(folder.path());
    REQUIRE(child.prints("in step 5"));
    child.send(number);
    REQUIRE(child.wait() == support::interrupted);

    const auto found = fm::latest_checkpoint(folder.path());
    REQUIRE(found->manifest.get_int("step") == 5);
    networks::Mlp resumed = mlp(2, true);
    fm::Trainer trainer(resumed, noisifier(), options_in(folder.path()));
    REQUIRE(trainer.resume());
    REQUIRE(trainer.steps() == 5);
    REQUIRE(trainer.fit(batches()).steps == 18);
    REQUIRE(same_bits(*resumed, *through));
  }
}
