// Trains the judge of generated clothes, a small classifier:
//   fashion_mnist_classifier --data DIR --out examples/models/fashion-mnist-judge

#include <fmt/format.h>
#include <torch/nn/functional/loss.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>

#include "examples/fashion_mnist/classifier.hpp"
#include "examples/fashion_mnist/dataset.hpp"
#include "examples/support/machine.hpp"
#include "examples/support/progress.hpp"
#include "examples/support/run_main.hpp"
#include "examples/support/signals.hpp"
#include "flowmatch/checkpoint/checkpoint.hpp"
#include "flowmatch/data/tensor_batches.hpp"
#include "flowmatch/model/channels_last.hpp"
#include "flowmatch/optim/learning_rate.hpp"
#include "flowmatch/optim/optimizer.hpp"

namespace fs = std::filesystem;
namespace fm = flowmatch;
using namespace fashion_mnist;

struct Options {
  fs::path data, out;
  std::int64_t epochs = 10;
  std::int64_t batch = 128;
  std::int64_t limit = 0;
  double learning_rate = 3e-3;
  std::uint64_t seed = 42;
  support::MachineOptions machine;
};

/// The batch moved by up to two pixels each way, over background: where a cloth lies on the page
/// says nothing of its class.
at::Tensor shifted(const at::Tensor& x, fm::Rng& rng) {
  const at::Tensor padded = at::constant_pad_nd(x, {2, 2, 2, 2}, -0.5);
  const at::Tensor by = (rng.uniform({2}) * 5).to(at::kLong);
  const auto down = by[0].item<std::int64_t>();
  const auto right = by[1].item<std::int64_t>();
  return padded.slice(2, down, down + 28).slice(3, right, right + 28);
}

int train(const Options& o) {
  const c10::Device device = o.machine.set_up();
  if (o.epochs < 1)
    throw fm::OptionError(fmt::format("--epochs is {}; choose at least 1", o.epochs));
  if (o.limit < 0)
    throw fm::OptionError(fmt::format("--limit is {}; choose at least 1, or 0 for all", o.limit));
  if (!(o.learning_rate > 0 && o.learning_rate < 1))
    throw fm::OptionError(fmt::format("--lr is {}; choose one in (0, 1)", o.learning_rate));
  if (fs::exists(o.out)) {
    throw fm::OptionError(o.out.string() + " is there already; remove it, or choose another --out");
  }
  Dataset data = load_dataset(o.data, std::cerr);
  if (o.limit > 0) {
    data = data.slice(0, o.limit);
  }
  std::cerr << "training the judge on " << data.images.size(0)
            << (data.is_test ? " test" : " training") << " images\n";

  at::manual_seed(o.seed);
  Classifier net;
  fm::to_channels_last(*net);
  net->to(device);
  fm::TensorBatches batches(judged_pixels(data.images).to(device), data.labels.to(device), o.batch,
                            {.seed = o.seed});
  const auto optimizer = fm::make_optimizer(fm::adamw(), net->parameters(), o.learning_rate);
  const fm::LearningRateSchedule schedule = fm::one_cycle();
  const fm::Rng rng(o.seed);
  const support::StopOnSignal signals;
  support::StepProgress progress("training the judge");
  const std::int64_t steps = o.epochs * batches.batches_per_epoch();
  std::int64_t step = 0;
  for (std::int64_t epoch = 0; epoch < o.epochs; ++epoch) {
    batches.start_epoch(epoch);
    while (const auto batch = batches.next()) {
      const fm::Rates rates = schedule.at(step, steps);
      fm::set_rates(*optimizer, o.learning_rate * rates.factor, rates.momentum);
      fm::Rng shift = rng.fork("shift", static_cast<std::uint64_t>(step));
      const at::Tensor scores = net->forward(shifted(batch->x_1, shift));
      const at::Tensor loss = torch::nn::functional::cross_entropy(scores, batch->condition);
      optimizer->zero_grad();
      loss.backward();
      optimizer->step();
      progress.show(++step, steps);
      if (signals.token().stop_requested()) {
        std::cerr << "stopped; nothing was written\n";
        return support::interrupted;
      }
    }
  }
  fm::check_finite(*net, steps);

  // The test images that come with the project: the judge has not seen them, unless it had to make
  // do with them.
  std::ostringstream quiet;
  const Dataset test =
      load_dataset(fs::path(FLOWMATCH_SOURCE_DIR) / "examples/data/fashion-mnist", quiet);
  const double accuracy = agreement(judge(net, test.images).classes, test.labels);
  fm::AtomicDirectory directory(o.out);
  fm::save_state_dict(directory.path() / "model.pt", fm::state_dict(*net));
  fm::Manifest manifest;
  manifest.set("note.model", "judge");
  manifest.set("note.data", data.is_test ? "test" : "train");
  manifest.set("note.accuracy", fmt::format("{:.4f}", accuracy));
  fm::commit_checkpoint(directory, std::move(manifest));
  std::cout << fmt::format("{:.2f} % of the {} test images judged as their class\n", 100 * accuracy,
                           test.images.size(0));
  std::cerr << "wrote " << o.out.string() << '\n';
  return support::success;
}

int main(int argc, char** argv) {
  CLI::App app("Train the judge of generated clothes, a small classifier",
               "fashion_mnist_classifier");
  Options o;
  app.add_option("--data", o.data,
                 "folder with the four IDX files, gzipped or not (default: see the README)");
  app.add_option("--out", o.out, "folder to write")->required();
  app.add_option("--epochs", o.epochs, "passes over the data");
  app.add_option("--batch", o.batch, "batch size");
  app.add_option("--lr", o.learning_rate, "the one-cycle policy's maximum learning rate");
  app.add_option("--limit", o.limit, "train on the first images only; 0 for all");
  app.add_option("--seed", o.seed, "of initial weights, order and shifts");
  o.machine.add_to(app);
  return support::run_main(app, argc, argv, [&] { return train(o); });
}
