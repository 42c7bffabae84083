// Trains the blog post's network on Fashion-MNIST, with the post's recipe as defaults:
//   fashion_mnist_train --out runs/flow --model small --epochs 5
// Where WORLD_SIZE is set it is one of several ranks (docs/distributed.md).
// Writes into the run's folder: checkpoints, metrics.csv, loss.png and samples-epoch-N.png.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "examples/fashion_mnist/dataset.hpp"
#include "examples/fashion_mnist/sampling.hpp"
#include "examples/fashion_mnist/unet.hpp"
#include "examples/support/machine.hpp"
#include "examples/support/picture.hpp"
#include "examples/support/progress.hpp"
#include "examples/support/ranks.hpp"
#include "examples/support/run_main.hpp"
#include "examples/support/signals.hpp"
#include "flowmatch/data/tensor_batches.hpp"
#include "flowmatch/train/checkpoint.hpp"
#include "flowmatch/train/progress.hpp"
#include "flowmatch/train/trainer.hpp"

namespace fs = std::filesystem;
using namespace fashion_mnist;

struct Options {
  fs::path data;
  fs::path out;
  Recipe recipe;
  std::int64_t epochs = 5;
  std::int64_t batch = 512;
  double learning_rate = 1e-2;
  double ema = 0;
  std::uint64_t seed = 42;
  std::int64_t limit = 0;
  std::int64_t checkpoint_every = 0;
  bool resume = false;
  support::MachineOptions machine;
};

/// metrics.csv, a row a step, and loss.png. A resumed run keeps the rows of the steps before.
class Metrics {
 public:
  Metrics(const fs::path& folder, std::int64_t steps_done) : folder_(folder) {
    std::ifstream old(folder / "metrics.csv");
    std::vector<std::string> kept;
    for (std::string line; std::getline(old, line);) {
      const std::int64_t step = std::atoll(line.c_str());
      if (step < 1 || step > steps_done) continue;
      kept.push_back(line);
      const std::size_t comma = line.find(',');
      note(step, std::atof(line.c_str() + (comma == std::string::npos ? 0 : comma + 1)));
    }
    old.close();
    file_.open(folder / "metrics.csv", std::ios::trunc);
    if (!file_)
      throw fm::DataError("cannot write " + (folder / "metrics.csv").string() +
                          "; check the folder");
    file_ << "step,loss,learning_rate,samples_per_second\n";
    for (const std::string& line : kept) file_ << line << '\n';
  }

  void on_step(const fm::StepReport& r) {
    file_ << fmt::format("{},{},{},{:.1f}\n", r.step, r.loss ? fmt::format("{:.6f}", *r.loss) : "",
                         r.learning_rate, r.samples_per_second)
          << std::flush;
    if (r.loss) note(r.step, *r.loss);
  }

  void on_epoch(const fm::EpochReport&) {
    support::write_png(folder_ / "loss.png",
                       support::line_plot({{"loss of a step", support::pale, steps_, losses_},
                                           {"running mean", support::blue, steps_, smooth_}},
                                          "training loss", "step"));
  }

 private:
  void note(std::int64_t step, double loss) {
    smooth_.push_back(smooth_.empty() ? loss : smooth_.back() + 0.05 * (loss - smooth_.back()));
    losses_.push_back(loss);
    steps_.push_back(static_cast<double>(step));
  }

  fs::path folder_;
  std::ofstream file_;
  std::vector<double> steps_, losses_, smooth_;
};

/// A grid of eight samples of each class, always from the same noise.
void draw_samples(const Options& o, const UNet& net, const fs::path& file) {
  constexpr std::int64_t n = 80;
  const c10::Device device = net->parameters().front().device();
  TrainedModel model{o.recipe, net};
  fm::Rng rng(o.seed);
  SamplingOptions options;
  options.steps = 25;
  options.seed = o.seed;
  const Samples samples = sample_images(model, starts(o.recipe, n, rng).to(device),
                                        classes_in_turn(n).to(device), options);
  support::write_png(file, support::image_grid(from_pixels(samples.x).cpu(), 10));
}

int train(Options o) {
  const c10::Device device = o.machine.set_up();
  const support::Ranks ranks = support::meet_ranks();
  const bool first = ranks.rank() == 0;
  if (o.limit < 0)
    throw fm::OptionError("--limit is " + std::to_string(o.limit) +
                          "; choose at least 1, or 0 for all");
  std::error_code error;
  fs::create_directories(o.out, error);
  if (error)
    throw fm::DataError("cannot make the folder " + o.out.string() + ": " + error.message());
  if (!o.resume && !fm::list_checkpoints(o.out).empty()) {
    throw fm::OptionError(
        o.out.string() +
        " holds a run already; add --resume to go on with it, or choose another --out");
  }
  Dataset data = load_dataset(o.data, std::cerr);
  o.recipe.data = data.is_test ? "test" : "train";
  if (o.limit > 0 && o.limit < data.images.size(0)) {
    data.images = data.images.slice(0, 0, o.limit);
    data.labels = data.labels.slice(0, 0, o.limit);
  }
  if (first)
    std::cerr << "training '" << o.recipe.model << "' (" << o.recipe.method << ") on "
              << data.images.size(0) << " images\n";

  // Dropout, if there is any, differs between ranks; the initial weights are rank 0's.
  at::manual_seed(o.seed + static_cast<std::uint64_t>(ranks.rank()));
  UNet net(UNetOptions::named(o.recipe.model));
  net->to(device);

  const support::StopOnSignal signals;
  fm::TrainOptions options = train_options(o.recipe, o.epochs, o.learning_rate);
  options.ema_decay = o.ema;
  options.seed = o.seed;
  options.checkpoints = o.out;
  options.checkpoint_every = o.checkpoint_every;
  options.channels_last = true;
  options.stop = signals.token();
  fm::TensorBatches batches(to_pixels(data.images).to(device), data.labels.to(device), o.batch,
                            {.seed = o.seed});

  return with_noisifier(o.recipe, [&](const auto& noisifier) {
    fm::Trainer trainer(net, noisifier, options, fm::PredictionLoss<>{}, ranks);
    if (o.resume && trainer.resume([](const std::string& damaged) {
          std::cerr << "note: " << damaged << '\n';
        })) {
      if (first) std::cerr << "resuming at step " << trainer.steps() << '\n';
    }
    std::optional<Metrics> metrics;  // as all hooks, rank 0's
    if (first) metrics.emplace(o.out, trainer.steps());
    const auto after_step = [&](const fm::StepReport& r) { metrics->on_step(r); };
    const auto after_epoch = [&](const fm::EpochReport& r) {
      metrics->on_epoch(r);
      std::optional<fm::Ema::Scope> averaged;
      if (trainer.ema() != nullptr) averaged.emplace(*trainer.ema());
      draw_samples(o, net, o.out / fmt::format("samples-epoch-{}.png", r.epoch + 1));
    };
    const fm::TrainResult result = trainer.fit(
        batches, fm::ProgressBar(std::cerr, support::on_terminal()), after_step, after_epoch);
    return result.stopped ? support::interrupted : support::success;
  });
}

int main(int argc, char** argv) {
  CLI::App app("Train flow matching (or its DDIM benchmark) on Fashion-MNIST",
               "fashion_mnist_train");
  Options o;
  app.add_option("--data", o.data,
                 "folder with the four IDX files, gzipped or not (default: see the README)");
  app.add_option("--out", o.out, "folder of the run")->required();
  app.add_option("--model", o.recipe.model, "paper (13.0 M parameters) or small (2.2 M)")
      ->check(CLI::IsMember({"paper", "small"}));
  app.add_option("--method", o.recipe.method, "flow or ddim")
      ->check(CLI::IsMember({"flow", "ddim"}));
  app.add_option("--target", o.recipe.target, "velocity or difference")
      ->check(CLI::IsMember({"velocity", "difference"}));
  app.add_option("--source", o.recipe.source, "noise or blank")
      ->check(CLI::IsMember({"noise", "blank"}));
  app.add_option("--epochs", o.epochs, "passes over the data");
  app.add_option("--batch", o.batch, "batch size, of all ranks together");
  app.add_option("--lr", o.learning_rate, "the one-cycle policy's maximum learning rate");
  app.add_option("--ema", o.ema, "decay of averaged weights, such as 0.999; 0 for none");
  app.add_option("--limit", o.limit, "train on the first images only; 0 for all");
  app.add_option("--seed", o.seed, "of initial weights, order, times and noise");
  app.add_option("--checkpoint-every", o.checkpoint_every,
                 "steps between checkpoints; 0 for one an epoch");
  app.add_flag("--resume", o.resume, "go on from the newest checkpoint in --out");
  o.machine.add_to(app);
  return support::run_main(app, argc, argv, [&] { return train(o); });
}
