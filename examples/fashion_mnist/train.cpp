// Trains a UNet on Fashion-MNIST, by our recipe or by the blog post's:
//   fashion_mnist_train --out runs/flow
//   fashion_mnist_train --out runs/post --recipe post --model small
// Where WORLD_SIZE is set it is one of several ranks (docs/distributed.md).
// Writes into the run's folder, and into `end` in it for the recipe's end: checkpoints,
// metrics.csv, loss.svg, samples-epoch-N.png and environment.txt, and on request validation.csv and
// event files for TensorBoard.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "examples/fashion_mnist/dataset.hpp"
#include "examples/fashion_mnist/guidance.hpp"
#include "examples/fashion_mnist/recipe_cli.hpp"
#include "examples/fashion_mnist/run_folder.hpp"
#include "examples/fashion_mnist/sampling.hpp"
#include "examples/fashion_mnist/unet.hpp"
#include "examples/support/environment.hpp"
#include "examples/support/machine.hpp"
#include "examples/support/picture.hpp"
#include "examples/support/progress.hpp"
#include "examples/support/ranks.hpp"
#include "examples/support/run_main.hpp"
#include "examples/support/signals.hpp"
#include "flowmatch/checkpoint/checkpoint.hpp"
#include "flowmatch/data/tensor_batches.hpp"
#include "flowmatch/io/read_file.hpp"
#include "flowmatch/loss/distillation.hpp"
#include "flowmatch/model/channels_last.hpp"
#include "flowmatch/model/state_dict.hpp"
#include "flowmatch/monitor/early_stopping.hpp"
#include "flowmatch/monitor/metrics_log.hpp"
#include "flowmatch/monitor/progress.hpp"
#include "flowmatch/monitor/tensorboard_log.hpp"
#include "flowmatch/parallel/agree.hpp"
#include "flowmatch/train/batch_norm.hpp"
#include "flowmatch/train/trainer.hpp"
#include "flowmatch/train/validation.hpp"

namespace fs = std::filesystem;
using namespace fashion_mnist;

struct Options {
  fs::path data;
  fs::path out;
  fs::path from;
  fs::path teacher, worse;
  double guidance = 1;
  std::vector<double> interval = {0, 1};
  RecipeCli recipe_cli;
  Recipe recipe;  // what the options above come to
  std::uint64_t seed = 42;
  std::int64_t limit = 0;
  std::int64_t accumulate = 1;
  bool hold_batch_norm = false;
  std::int64_t checkpoint_every = 0;
  std::int64_t validate = 0;
  std::int64_t patience = 0;
  bool tensorboard = false;
  bool resume = false;
  std::string precision = "float32";
  bool cuda_graph = false;
  support::MachineOptions machine;
  std::string command;  // as it was called, for environment.txt
};

/// The velocity that --teacher gives instead of each sample's own, guided where that was asked.
std::optional<Velocity> load_teacher(const Options& o, c10::Device device) {
  if (o.teacher.empty()) return std::nullopt;
  return teacher_velocity(
      o.teacher, o.worse, o.recipe.pixels,
      {.scale = o.guidance, .from = o.interval.front(), .to = o.interval.back()}, device);
}

/// A hook that may be missing.
template <class Hook>
struct Maybe : std::optional<Hook> {
  void on_step(const fm::StepReport& r) {
    if (*this) (*this)->on_step(r);
  }
  void on_epoch(const fm::EpochReport& r) {
    if (*this) (*this)->on_epoch(r);
  }
};

/// A grid of eight samples of each class, always from the same noise.
support::Picture draw_samples(const Options& o, const UNet& net) {
  constexpr std::int64_t n = 80;
  const c10::Device device = net->parameters().front().device();
  TrainedModel model{o.recipe, net};
  fm::Rng rng(o.seed);
  SamplingOptions options;
  options.steps = o.recipe.method == "mean_flow" ? 1 : 25;
  options.seed = o.seed;
  const Samples samples = sample_images(model, starts(o.recipe, n, rng).to(device),
                                        classes_in_turn(n).to(device), options);
  return support::image_grid(samples.images, 10);
}

fm::TrainOptions options_of(const Options& o, const Recipe& recipe, const fs::path& folder) {
  fm::TrainOptions options = train_options(recipe);
  options.seed = o.seed;
  options.accumulate = o.accumulate;
  options.checkpoints = folder;
  options.checkpoint_every = o.checkpoint_every;
  options.channels_last = true;
  options.precision = support::parse_precision(o.precision);
  options.cuda_graph = o.cuda_graph;
  return options;
}

/// Throws OptionError before anything happens.
void check(const Options& o) {
  if (o.limit < 0)
    throw fm::OptionError("--limit is " + std::to_string(o.limit) +
                          "; choose at least 1, or 0 for all");
  if (o.validate < 0 || o.patience < 0 || (o.patience > 0 && o.validate == 0)) {
    throw fm::OptionError(fmt::format(
        "--validate is {} and --patience {}; choose at least 0, and for a patience some images to "
        "validate on",
        o.validate, o.patience));
  }
  if (o.hold_batch_norm && o.from.empty()) {
    throw fm::OptionError("--hold-batch-norm holds statistics that a run has; name it with --from");
  }
  for (const Recipe& recipe : {o.recipe, o.recipe.end_alone()})
    options_of(o, recipe, o.out).validate();
  const bool is_there =
      !fm::list_checkpoints(o.out).empty() || !fm::list_checkpoints(o.out / end_name).empty();
  if (is_there && !o.resume) {
    throw fm::OptionError(
        o.out.string() +
        " holds a run already; add --resume to go on with it, or choose another --out");
  }
}

/// What training begins with: the weights of --from, if it is given and no checkpoint replaces
/// them.
UNet initial_network(const Options& o) {
  if (o.from.empty() || !fm::list_checkpoints(o.out).empty()) return UNet(o.recipe.net);
  const TrainedModel start = load_model(o.from, std::nullopt, at::kCPU);
  // A mean flow may begin as the flow that it is an average of.
  const bool from_flow = o.recipe.method == "mean_flow" && start.recipe.method == "flow" &&
                         start.recipe.target == "velocity" && start.recipe.source == "noise";
  UNetOptions shape = o.recipe.net;
  shape.two_times = start.recipe.net.two_times;
  if (from_flow) shape.time_scale = start.recipe.net.time_scale;
  if (start.recipe.net != shape || (start.recipe.method != o.recipe.method && !from_flow) ||
      start.recipe.pixels != o.recipe.pixels) {
    throw fm::OptionError("--from " + o.from.string() +
                          " is of another network, method or pixels; give the options that it was "
                          "trained with, or --method mean_flow to go on from a flow");
  }
  if (!from_flow) return start.net;
  UNet net(o.recipe.net);
  fm::load_state_dict(*net, fm::state_dict(*start.net), {.strict = false});  // all but r - t
  if (o.recipe.net.time_scale != start.recipe.net.time_scale) {
    UNet other = start.net;
    net->fit_times(*other);
  }
  fm::to_channels_last(*net);
  return net;
}

/// Trains by `recipe` (the run's, or that of its end alone) into `folder`; goes on with what it
/// holds. Returns whether it was interrupted.
template <class Ranks>
bool train(const Options& o, const Recipe& recipe, const fs::path& folder, UNet net,
           std::optional<Velocity> teacher, const Dataset& data, const Dataset& held_out,
           const Ranks& ranks, std::stop_token stop) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    throw fm::DataError("cannot make the folder " + folder.string() + ": " + error.message());
  if (o.hold_batch_norm) net->hold_batch_norm();
  const c10::Device device = net->parameters().front().device();
  const bool first = ranks.rank() == 0;
  fm::TrainOptions options = options_of(o, recipe, folder);
  options.stop = stop;
  fm::TensorBatches batches(recipe.pixels.from_images(data.images).to(device),
                            data.labels.to(device), recipe.batch, {.seed = o.seed});

  return with_training(recipe, [&](const auto& noisifier, const auto& objective,
                                   const auto& judged_by) {
    auto examples = noisifier;
    if (teacher) {
      examples = [&](const auto& batch, fm::Rng& rng) {
        return fm::taught(*teacher, noisifier(batch, rng));
      };
    }
    fm::Trainer trainer(net, examples, options, objective, ranks);
    if (trainer.resume(
            [](const std::string& damaged) { std::cerr << "note: " << damaged << '\n'; })) {
      if (first) std::cerr << "resuming at step " << trainer.steps() << '\n';
    }
    const auto note_environment = [&](std::int64_t from) {
      support::Entries entries = support::environment(device);
      entries.emplace_back("processes", std::to_string(ranks.size()));
      entries.emplace_back("from step", std::to_string(from));
      entries.emplace_back("command", o.command);
      support::append_entries(folder / environment_name, entries);
    };
    if (first && trainer.steps() > 0) note_environment(trainer.steps());
    // A run that begins has the folder for its own by its first step; before, another may have it.
    bool begins = first && trainer.steps() == 0;
    const auto begin = [&](const fm::StepReport&) {
      if (!std::exchange(begins, false)) return;
      set_aside_records(folder);
      note_environment(0);
    };
    // All that watches is rank 0's.
    Maybe<fm::MetricsLog> metrics;
    if (first) metrics.emplace(folder / metrics_name, trainer.steps());
    Maybe<fm::TensorBoardLog> board;
    if (first && o.tensorboard) board.emplace(folder / "tensorboard", trainer.steps());

    std::optional<fm::MetricsFile> losses;
    std::optional<fm::EarlyStopping> stopping;
    bool stopped_early = false;  // before it was resumed
    if (first && o.validate > 0) {
      const fs::path file = folder / validation_name;
      losses.emplace(file, std::vector<std::string>{"loss"}, trainer.steps());
      if (o.patience > 0) stopping.emplace(o.patience);
      for (const auto& row : fm::read_metrics(file, "loss")) {
        if (stopping && row.step <= trainer.steps())
          stopped_early = (*stopping)(row.value) == fm::Next::stop;
      }
    }
    if (fm::any_rank(ranks, device, stopped_early)) return false;
    // So that the averaged weights have statistics of their own in each epoch's checkpoint.
    const fm::BeforeCheckpoint measure([&](const fm::EpochReport&) {
      if (trainer.ema() == nullptr || o.hold_batch_norm) return;
      fm::measure_batch_norm(net, noisifier, batches, {.seed = o.seed, .ema = trainer.ema()},
                             objective);
    });
    // The score of the checkpoint, so that the best one stays.
    std::optional<double> validation_loss;
    const fm::BeforeCheckpoint validate([&](const fm::EpochReport& r) {
      if (!losses) return validation_loss;
      fm::Validation validation(
          net, noisifier,
          fm::TensorBatches(recipe.pixels.from_images(held_out.images), held_out.labels,
                            recipe.batch, {.shuffle = false}),
          {.seed = o.seed, .ema = trainer.ema()}, judged_by);
      validation_loss = validation();
      std::cerr << fmt::format("validation loss {:.4f}\n", *validation_loss);
      losses->write(r.step, {validation_loss});
      if (board) board->writer().scalar("validation/loss", *validation_loss, r.step);
      return validation_loss;
    });
    const auto stop_early = [&](const fm::EpochReport&) {
      return stopping ? (*stopping)(*validation_loss) : fm::Next::proceed;
    };
    const auto draw = [&](const fm::EpochReport& r) {
      support::write_svg(folder / "loss.svg", {{loss_series(folder), "training loss", "step"}});
      std::optional<fm::Ema::Scope> averaged;
      if (trainer.ema() != nullptr) averaged.emplace(*trainer.ema());
      const support::Picture samples = draw_samples(o, net);
      const fs::path file = folder / samples_name(r.epoch + 1);
      support::write_png(file, samples);
      if (board) {
        board->writer().image("samples", fm::read_file<fm::DataError>(file), samples.width,
                              samples.height, 1, r.step);
        board->writer().flush();
      }
    };
    const fm::TrainResult result = trainer.fit(batches, fm::ProgressBar(std::cerr), begin, metrics,
                                               board, measure, validate, stop_early, draw);
    // Ranks differ in which of them was asked to stop.
    return fm::any_rank(ranks, device, result.stopped && stop.stop_requested());
  });
}

int train(Options o) {
  const c10::Device device = o.machine.set_up();
  const support::Ranks ranks = support::meet_ranks();
  o.recipe = o.recipe_cli.recipe();
  check(o);
  const Dataset all = load_dataset(o.data, std::cerr);
  o.recipe.data = all.is_test ? "test" : "train";
  const std::int64_t images =
      o.limit > 0 ? std::min(o.limit, all.images.size(0)) : all.images.size(0);
  const std::int64_t n = images - o.validate;
  if (n < 1) {
    throw fm::OptionError(
        fmt::format("--validate {} of {} images leaves none to train on", o.validate, images));
  }
  const Dataset data = all.slice(0, n);
  const Dataset held_out = all.slice(n, images);
  const Dataset data_of_end = all.slice(0, std::min(o.recipe.end.images, n));

  // Dropout, if there is any, differs between ranks; the initial weights are rank 0's.
  at::manual_seed(o.seed + static_cast<std::uint64_t>(ranks.rank()));
  UNet net = initial_network(o);
  const std::int64_t in_end = data_of_end.images.size(0);
  if (ranks.rank() == 0) {
    const double gflop = net->gflop(o.recipe.pixels.size);
    const auto seen = static_cast<double>(o.recipe.epochs * n + in_end);
    const double step = o.recipe.cost_of_step();
    std::cerr << fmt::format(
        "training {} by a UNet of widths {} on {} images: {:.4f} GFLOP forward an image, in all "
        "{:.2f} times the cost of the post's small network\n",
        o.recipe.method, fmt::join(o.recipe.net.widths, ", "), n, gflop,
        seen * gflop * step / post_cost);
    if (step > 1) {
      std::cerr << fmt::format("a step costs {:.2f} times a flow's, which is counted\n", step);
    }
    if (!o.from.empty()) std::cerr << "the cost of the run that it begins with comes on top\n";
    if (!o.teacher.empty()) std::cerr << "so does that of the teacher, which each step asks\n";
  }
  net->to(device);
  const std::optional<Velocity> teacher = load_teacher(o, device);

  const support::StopOnSignal signals;
  if (train(o, o.recipe, o.out, net, teacher, data, held_out, ranks, signals.token()))
    return support::interrupted;
  if (in_end == 0) return support::success;
  if (ranks.rank() == 0) {
    std::cerr << fmt::format("the end: {} images, {} at a time\n", in_end, o.recipe.end.batch);
  }
  const TrainedModel so_far = load_model(o.out, std::nullopt, device);
  const bool interrupted = train(o, o.recipe.end_alone(), o.out / end_name, so_far.net, teacher,
                                 data_of_end, held_out, ranks, signals.token());
  return interrupted ? support::interrupted : support::success;
}

int main(int argc, char** argv) {
  CLI::App app("Train flow matching (or mean flows, or its DDIM benchmark) on Fashion-MNIST",
               "fashion_mnist_train");
  Options o;
  o.command = support::command_line(argc, argv);
  app.add_option("--data", o.data,
                 "folder with the four IDX files, gzipped or not (default: see the README)");
  app.add_option("--out", o.out, "folder of the run")->required();
  app.add_option("--from", o.from,
                 "a run whose weights to begin with, the averaged ones if it has some; a mean "
                 "flow may begin with a flow's");
  auto* teacher = app.add_option(
      "--teacher", o.teacher, "a flow to learn from: its velocities instead of each image's own");
  auto* guidance = app.add_option("--guidance", o.guidance,
                                  "of the teacher, away from --worse or from no label; 1 for none")
                       ->needs(teacher);
  app.add_option("--guidance-interval", o.interval, "A,B: the times of guidance, of 0,1")
      ->delimiter(',')
      ->expected(2)
      ->needs(guidance);
  app.add_option("--worse", o.worse, "a run trained less than the teacher, or smaller")
      ->needs(guidance);
  o.recipe_cli.add_to(app);
  app.add_flag("--hold-batch-norm", o.hold_batch_norm,
               "with --from: train with the statistics of its BatchNorm instead of each batch's");
  app.add_option("--accumulate", o.accumulate, "batches whose gradients make one step");
  app.add_option("--limit", o.limit, "train on the first images only; 0 for all");
  app.add_option("--seed", o.seed, "of initial weights, order, times and noise");
  app.add_option("--checkpoint-every", o.checkpoint_every,
                 "steps between checkpoints; 0 for one an epoch");
  app.add_option("--validate", o.validate,
                 "images to hold out; their loss after each epoch goes to validation.csv");
  app.add_option("--patience", o.patience,
                 "stop after so many epochs without a lower validation loss; 0 for never");
  app.add_flag("--tensorboard", o.tensorboard, "write curves and samples to OUT/tensorboard");
  app.add_flag("--resume", o.resume, "go on from the newest checkpoint in --out");
  app.add_option("--precision", o.precision, "of matrix products and convolutions")
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}));
  app.add_flag("--cuda-graph", o.cuda_graph,
               "on a CUDA device: record the way forward and backward once, and replay it");
  o.machine.add_to(app);
  return support::run_main(app, argc, argv, [&] { return train(o); });
}
