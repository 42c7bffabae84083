// Distribution matching distillation: makes a student of one evaluation out of a mean flow, by a
// trained flow as its teacher.
//   fashion_mnist_match --student runs/mean --teacher runs/flow --out runs/matched
//   fashion_mnist_sample --checkpoint runs/matched --steps 1 --out clothes.png
// The run's folder holds checkpoints of generator and critic, metrics.csv and environment.txt.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "examples/fashion_mnist/dataset.hpp"
#include "examples/fashion_mnist/guidance.hpp"
#include "examples/fashion_mnist/run_folder.hpp"
#include "examples/fashion_mnist/sampling.hpp"
#include "examples/support/environment.hpp"
#include "examples/support/machine.hpp"
#include "examples/support/progress.hpp"
#include "examples/support/run_main.hpp"
#include "examples/support/signals.hpp"
#include "flowmatch/checkpoint/checkpoint.hpp"
#include "flowmatch/data/tensor_batches.hpp"
#include "flowmatch/loss/distribution_matching.hpp"
#include "flowmatch/model/generator_and_critic.hpp"
#include "flowmatch/monitor/metrics_log.hpp"
#include "flowmatch/monitor/progress.hpp"
#include "flowmatch/noisify/matching.hpp"
#include "flowmatch/optim/parameter_groups.hpp"
#include "flowmatch/train/batch_norm.hpp"
#include "flowmatch/train/trainer.hpp"

namespace fs = std::filesystem;
using namespace fashion_mnist;

struct Options {
  fs::path data, student, teacher, out;
  double guidance = 1;
  std::vector<double> interval = {0, 1};
  std::int64_t epochs = 1, batch = 64, limit = 0;
  double learning_rate = 3e-4, critic_rate = 1.5, ema = 0.99, latest_look = 0.995;
  std::uint64_t seed = 42;
  bool resume = false;
  support::MachineOptions machine;
  std::string command;
};

fm::TrainOptions options_of(const Options& o, const Recipe& recipe) {
  fm::TrainOptions options;
  options.epochs = o.epochs;
  options.learning_rate = o.learning_rate;
  // No momentum: the direction changes as the critic follows.
  options.optimizer = fm::with_groups(fm::adam({.beta1 = 0, .beta2 = 0.99, .eps = 1e-8}),
                                      {{.prefix = "critic.", .rate_factor = o.critic_rate}});
  options.schedule = fm::cosine_annealing();
  options.ema_decay = o.ema;
  options.channels_last = true;
  options.seed = o.seed;
  options.checkpoints = o.out;
  options.notes = recipe.notes();
  options.notes[holds_pair_note] = "yes";
  return options;
}

int match(const Options& o) {
  const c10::Device device = o.machine.set_up();
  if (o.limit < 0) throw fm::OptionError("--limit is below 0; choose at least 1, or 0 for all");
  if (!fm::list_checkpoints(o.out).empty() && !o.resume) {
    throw fm::OptionError(o.out.string() +
                          " holds a run already; add --resume, or choose another --out");
  }
  TrainedModel student = load_model(o.student, std::nullopt, device);
  if (student.recipe.method != "mean_flow") {
    throw fm::OptionError("--student is a run of --method " + student.recipe.method +
                          "; give one of mean_flow");
  }
  const Velocity teacher = teacher_velocity(
      o.teacher, {}, student.recipe.pixels,
      {.scale = o.guidance, .from = o.interval.front(), .to = o.interval.back()}, device);
  TrainedModel critic = load_model(o.student, std::nullopt, device);
  critic.net->hold_batch_norm();  // which it has from the student, whose velocities it begins with
  options_of(o, student.recipe).validate();

  const Dataset all = load_dataset(o.data, std::cerr);
  const std::int64_t n = all.labels.size(0);
  const Dataset data = all.slice(0, o.limit > 0 ? std::min(o.limit, n) : n);
  fm::TensorBatches batches(student.recipe.pixels.from_images(data.images).to(device),
                            data.labels.to(device), o.batch, {.seed = o.seed});
  // In units of a flow's step: generator and critic, and the teacher's ways forward.
  const double looks = o.guidance == 1 ? 1 : 1 + o.interval.back() - o.interval.front();
  std::cerr << fmt::format(
      "matching: {} images an epoch, a step costs {:.2f} times a flow's; the student and the "
      "teacher come on top\n",
      data.labels.size(0), 2 + looks / 3);

  at::manual_seed(o.seed);
  fm::GeneratorAndCritic<UNet> both(student.net, critic.net);
  const fm::MatchingNoisifier noisifier(fm::UniformTime(o.latest_look));
  const fm::DistributionMatchingLoss objective(teacher);
  const support::StopOnSignal signals;
  fm::TrainOptions options = options_of(o, student.recipe);
  options.stop = signals.token();
  fm::Trainer trainer(both, noisifier, options, objective);
  if (trainer.resume([](const std::string& damaged) { std::cerr << "note: " << damaged << '\n'; }))
    std::cerr << "resuming at step " << trainer.steps() << '\n';
  std::error_code error;
  fs::create_directories(o.out, error);
  if (error)
    throw fm::DataError("cannot make the folder " + o.out.string() + ": " + error.message());
  support::Entries entries = support::environment(device);
  entries.emplace_back("from step", std::to_string(trainer.steps()));
  entries.emplace_back("command", o.command);
  support::append_entries(o.out / environment_name, entries);
  const fm::BeforeCheckpoint measure([&](const fm::EpochReport&) {
    if (trainer.ema() == nullptr) return;
    fm::measure_batch_norm(both, noisifier, batches, {.seed = o.seed, .ema = trainer.ema()},
                           objective);
  });
  const fm::TrainResult result =
      trainer.fit(batches, fm::ProgressBar(std::cerr),
                  fm::MetricsLog(o.out / metrics_name, trainer.steps()), measure);
  return result.stopped && signals.token().stop_requested() ? support::interrupted
                                                            : support::success;
}

int main(int argc, char** argv) {
  CLI::App app("Make a student of one evaluation: distribution matching on Fashion-MNIST",
               "fashion_mnist_match");
  Options o;
  o.command = support::command_line(argc, argv);
  app.add_option("--data", o.data,
                 "folder with the four IDX files, whose labels serve (default: see the README)");
  app.add_option("--student", o.student, "a mean flow to begin with")->required();
  app.add_option("--teacher", o.teacher, "a flow whose distribution is wanted")->required();
  auto* guidance =
      app.add_option("--guidance", o.guidance, "of the teacher, away from no label; 1 for none");
  app.add_option("--guidance-interval", o.interval, "A,B: the times of guidance, of 0,1")
      ->delimiter(',')
      ->expected(2)
      ->needs(guidance);
  app.add_option("--out", o.out, "folder of the run")->required();
  app.add_option("--epochs", o.epochs, "passes over the labels");
  app.add_option("--batch", o.batch, "batch size");
  app.add_option("--limit", o.limit, "the first images only; 0 for all");
  app.add_option("--lr", o.learning_rate, "learning rate, which falls along half a cosine");
  app.add_option("--critic-rate", o.critic_rate, "that of the critic, in units of it");
  app.add_option("--ema", o.ema, "decay of averaged weights; 0 for none");
  app.add_option("--latest-look", o.latest_look, "samples are looked at until this time");
  app.add_option("--seed", o.seed, "of order, times and noise");
  app.add_flag("--resume", o.resume, "go on from the newest checkpoint in --out");
  o.machine.add_to(app);
  return support::run_main(app, argc, argv, [&] { return match(o); });
}
