// Kills a small training run at random moments with SIGKILL, resumes it each time, and compares the
// final weights bit for bit with those of a run that was left alone:
//   kill_resume [kills] [seed]
// A run that gets to its end is compared, and another one begun, until all kills are done. Dropout,
// BatchNorm, accumulation, averages and channels-last weights are in it, and a checkpoint is
// written after every second step, so that many kills fall into the writing of one.

#include <sys/wait.h>
#include <torch/torch.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <random>
#include <string>
#include <thread>

#include "flowmatch/data/tensor_batches.hpp"
#include "flowmatch/io/read_file.hpp"
#include "flowmatch/noisify/noisifier.hpp"
#include "flowmatch/path/affine.hpp"
#include "flowmatch/train/trainer.hpp"
#include "tests/support/temporary_folder.hpp"

namespace fm = flowmatch;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct NetImpl : torch::nn::Module {
  NetImpl() {
    const auto conv = [](std::int64_t in, std::int64_t out) {
      return torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, 3).padding(1));
    };
    first = register_module("first", conv(1, 8));
    norm = register_module("norm", torch::nn::BatchNorm2d(8));
    dropout = register_module("dropout", torch::nn::Dropout(0.1));
    last = register_module("last", conv(8, 1));
  }
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& t) {
    const torch::Tensor h = norm->forward(first->forward(x + t.view({-1, 1, 1, 1})));
    return last->forward(dropout->forward(torch::silu(h)));
  }
  torch::nn::Conv2d first{nullptr}, last{nullptr};
  torch::nn::BatchNorm2d norm{nullptr};
  torch::nn::Dropout dropout{nullptr};
};
TORCH_MODULE(Net);

/// Trains from wherever the folder stands, and writes final.pt at the end.
void train(const fs::path& folder) {
  at::set_num_threads(1);
  at::manual_seed(1);
  Net net;
  fm::TrainOptions options{.epochs = 8, .learning_rate = 1e-2, .schedule = fm::one_cycle()};
  options.accumulate = 2;
  options.clip_norm = 1;
  options.ema_decay = 0.99;
  options.channels_last = true;
  options.checkpoints = folder / "checkpoints";
  options.checkpoint_every = 2;
  fm::Trainer trainer(net, fm::VelocityNoisifier(fm::LinearPath{}), options);
  trainer.resume([](const std::string& damaged) { std::cerr << "note: " << damaged << '\n'; });
  trainer.fit(fm::TensorBatches(fm::Rng(2).normal({160, 1, 8, 8}), 8));
  fm::StateDict state = fm::state_dict(*net);
  for (const auto& entry : trainer.ema()->state())
    state.insert("ema." + entry.key(), entry.value());
  fm::save_state_dict(folder / "writing.pt", state);
  fs::rename(folder / "writing.pt", folder / "final.pt");
}

/// Trains in a process of its own. Returns whether it was killed: after `patience`, if it has not
/// ended before.
bool run(const fs::path& folder, Clock::duration patience) {
  const pid_t child = fork();  // LibTorch has not been used here yet, so the child is sound
  if (child == 0) {
    try {
      train(folder);
      ::_exit(0);
    } catch (const std::exception& error) {
      std::cerr << error.what() << '\n';
      ::_exit(1);
    }
  }
  const auto end = Clock::now() + patience;
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (Clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      continue;
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return WIFSIGNALED(status);  // it may have ended in the very last moment
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    std::cerr << "the run failed in " << folder << '\n';
    std::exit(1);
  }
  return false;
}

int main(int argc, char** argv) {
  const int kills = argc > 1 ? std::atoi(argv[1]) : 200;
  std::mt19937 random(argc > 2 ? static_cast<unsigned>(std::atoi(argv[2])) : 1);
  const TemporaryFolder temporary;
  const fs::path& root = temporary.path();
  const auto forever = std::chrono::hours(1);

  const auto began = Clock::now();
  run(root / "alone", forever);
  const std::chrono::duration<double> alone = Clock::now() - began;
  const std::string expected = fm::read_file<fm::DataError>(root / "alone" / "final.pt");

  int killed = 0;
  int runs = 0;
  int equal = 0;
  while (killed < kills) {
    const fs::path folder = root / std::to_string(runs++);
    for (bool ended = false; !ended;) {
      // About ten kills a run.
      std::uniform_real_distribution<double> seconds(0, 0.2 * alone.count());
      const bool leave_alone = killed == kills;
      const auto patience = std::chrono::duration_cast<Clock::duration>(
          std::chrono::duration<double>(seconds(random)));
      ended = !run(folder, leave_alone ? Clock::duration(forever) : patience);
      killed += ended ? 0 : 1;
    }
    equal += fm::read_file<fm::DataError>(folder / "final.pt") == expected ? 1 : 0;
    fs::remove_all(folder);
  }
  std::cout << killed << " kills in " << runs << " runs: " << equal << " of " << runs
            << " ended with the bits of the run that was left alone\n";
  return equal == runs ? 0 : 1;
}
