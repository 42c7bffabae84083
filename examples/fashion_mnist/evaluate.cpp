// Says with numbers how good samples are, beside the floor: what real training images would get.
//   fashion_mnist_evaluate --data DIR --samples samples.npy --json samples.json --pairs pairs.png
//   fashion_mnist_evaluate --data DIR --checkpoint runs/flow --solver midpoint --steps 5

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "examples/fashion_mnist/dataset.hpp"
#include "examples/fashion_mnist/evaluation.hpp"
#include "examples/fashion_mnist/sampling_cli.hpp"
#include "examples/support/machine.hpp"
#include "examples/support/output_path.hpp"
#include "examples/support/progress.hpp"
#include "examples/support/run_main.hpp"
#include "examples/support/signals.hpp"
#include "flowmatch/checkpoint/checkpoint.hpp"
#include "flowmatch/io/npy.hpp"

namespace fs = std::filesystem;
using namespace fashion_mnist;
using Json = nlohmann::ordered_json;

const fs::path project = FLOWMATCH_SOURCE_DIR;

struct Options {
  fs::path samples, labels, checkpoint, data, json, pairs;
  fs::path judge = project / "examples" / "models" / "fashion-mnist-judge";
  std::int64_t n = 2048;
  std::int64_t held_out = 0;
  SamplingCli cli;
  support::MachineOptions machine;
};

/// What is judged, and where it comes from.
struct Judged {
  at::Tensor images;  // uint8 [N, 28, 28]
  at::Tensor labels;
  std::string trained_on = "unknown";
  Json origin;
};

/// From a file, or freshly drawn; nullopt where Ctrl-C stopped it.
std::optional<Judged> get_samples(Options& o, c10::Device device) {
  Judged judged;
  if (!o.samples.empty()) {
    judged.images = load_samples(o.samples);
    judged.labels = classes_in_turn(judged.images.size(0));
    if (!o.labels.empty()) judged.labels = load_labels(o.labels, judged.images.size(0));
    judged.origin = {{"file", o.samples.string()}};
    return judged;
  }
  TrainedModel model = o.cli.load(o.checkpoint, device);
  const support::StopOnSignal signals;
  support::StepProgress progress("sampling");
  SamplingOptions& sampling = o.cli.sampling;
  if (sampling.solver.empty()) sampling.solver = solver_of(model.recipe);
  sampling.observer = [&](const at::Tensor&, std::int64_t step, std::int64_t steps) {
    progress.show(step, steps);
    return !signals.token().stop_requested();
  };
  fm::Rng rng(sampling.seed);
  judged.labels = classes_in_turn(o.n);
  const Samples samples = sample_images(model, starts(model.recipe, o.n, rng).to(device),
                                        judged.labels.to(device), sampling);
  if (signals.token().stop_requested()) return std::nullopt;
  judged.images = to_bytes(samples.images).squeeze(1);
  judged.trained_on = model.recipe.data;
  judged.origin = {{"checkpoint", o.checkpoint.string()},
                   {"method", model.recipe.method},
                   {"recipe", model.recipe.notes()},
                   {"solver", sampling.solver},
                   {"steps", sampling.steps},
                   {"evaluations", samples.evaluations},
                   {"grid", sampling.grid},
                   {"shift", sampling.shift},
                   {"last_step", sampling.last_step},
                   {"weights", o.cli.weights},
                   {"rtol", sampling.rtol},
                   {"atol", sampling.atol},
                   {"eta", sampling.eta},
                   {"seed", sampling.seed}};
  if (const auto& guidance = sampling.guidance) {
    judged.origin["guidance"] = {{"scale", guidance->scale},
                                 {"rule", guidance->rule},
                                 {"worse", o.cli.worse.string()},
                                 {"interval", {guidance->from, guidance->to}}};
  }
  return judged;
}

Json to_json(const std::optional<Figures>& figures) {
  if (!figures) return {};
  Json json = {{"images", figures->images}};
  for (const FigureLine& line : figure_lines) json[line.key] = line.value(*figures);
  return json;
}

template <class T>
std::vector<T> numbers(const at::Tensor& t) {
  const at::Tensor x = t.contiguous();
  return {x.const_data_ptr<T>(), x.const_data_ptr<T>() + x.numel()};
}

Json spread(const at::Tensor& distance) {
  const auto at_share = [&](double share) { return distance.quantile(share).item<double>(); };
  return {{"minimum", at_share(0)}, {"p01", at_share(0.01)},
          {"p25", at_share(0.25)},  {"median", at_share(0.5)},
          {"p75", at_share(0.75)},  {"mean", distance.mean().item<double>()}};
}

/// The distances of samples to the images that the network saw, beside those of test images.
Json memorisation(const fm::Nearest& nearest, const Dataset& seen, const Dataset& test) {
  Json json = {{"among", seen.is_test ? "test" : "training"},
               {"samples", spread(nearest.distance)}};
  if (!seen.is_test) {
    const at::Tensor some = classes_in_turn_among(test.labels, nearest.distance.size(0));
    const at::Tensor usual =
        nearest_images(test.images.index_select(0, some), seen.images).distance;
    json["test_images"] = spread(usual);
    json["share_below_p01_of_test_images"] =
        nearest.distance.lt(usual.quantile(0.01)).to(at::kDouble).mean().item<double>();
  }
  json["index"] = numbers<std::int64_t>(nearest.index);
  json["distance"] = numbers<double>(nearest.distance);
  return json;
}

void print(const Figures& figures, const std::optional<Figures>& floor, const Json& nearest,
           const std::string& reference) {
  std::cout << fmt::format("{:<34}{:>12}{:>12}\n",
                           fmt::format("{} against the {} images", figures.images, reference),
                           "samples", floor ? "floor" : "");
  for (const FigureLine& line : figure_lines) {
    std::cout << fmt::format("{:<34}{:>12.{}f}", line.name, line.scale * line.value(figures),
                             line.digits);
    if (floor) std::cout << fmt::format("{:>12.{}f}", line.scale * line.value(*floor), line.digits);
    std::cout << '\n';
  }
  std::cout << fmt::format("{:<34}{:>12}{:>12}{:>12}\n",
                           "nearest " + nearest["among"].get<std::string>() + " image, distance",
                           "minimum", "1 % below", "median");
  const auto distances = [&](const std::string& name, const Json& of) {
    const auto number = [&](const char* which) { return of[which].get<double>(); };
    std::cout << fmt::format("{:<34}{:>12.2f}{:>12.2f}{:>12.2f}\n", name, number("minimum"),
                             number("p01"), number("median"));
  };
  distances("of samples", nearest["samples"]);
  if (nearest.contains("test_images"))
    distances("of " + reference + " images", nearest["test_images"]);
}

int evaluate(Options o) {
  const c10::Device device = o.machine.set_up();
  if (o.samples.empty() == o.checkpoint.empty())
    throw fm::OptionError("give either --samples FILE.npy or --checkpoint RUN");
  if (!o.labels.empty() && o.samples.empty())
    throw fm::OptionError("--labels goes with --samples; a run is sampled class by class");
  o.cli.validate(o.n);
  if (o.held_out != 0 && o.held_out < 10)
    throw fm::OptionError(fmt::format("--held-out is {}; choose at least 10, or 0", o.held_out));
  if (o.n < 10) throw fm::OptionError(fmt::format("--n is {}; choose at least 10", o.n));
  support::check_apart({{"--samples", o.samples}, {"--json", o.json}, {"--pairs", o.pairs}});
  if (!o.pairs.empty()) support::check_picture_path(o.pairs);  // now, not after the work
  if (o.json.has_parent_path() && !fs::is_directory(o.json.parent_path()))
    throw fm::DataError("cannot write " + o.json.string() + "; there is no such folder");
  Classifier judge_net = load_classifier(o.judge, device);
  const fm::Manifest judge_notes = fm::open_checkpoint(o.judge).manifest;

  const std::optional<Judged> judged = get_samples(o, device);
  if (!judged) {
    std::cerr << "stopped; nothing was written\n";
    return support::interrupted;
  }
  std::ostringstream quiet;
  Dataset test = load_dataset(project / "examples" / "data" / "fashion-mnist", quiet);
  Dataset training = load_dataset(o.data, std::cerr);
  if (o.held_out > 0) {  // as fashion_mnist_train --validate holds them out
    const std::int64_t rest = training.images.size(0) - o.held_out;
    if (rest < 10) {
      throw fm::OptionError(fmt::format("--held-out is {}; choose less than the {} images",
                                        o.held_out, training.images.size(0)));
    }
    test = training.slice(rest, training.images.size(0));
    training = training.slice(0, rest);
  }
  // Copies are looked for among the images that the run was trained on.
  const bool trained_on_test = judged->trained_on == "test" && o.held_out == 0;
  const Dataset& seen = trained_on_test ? test : training;

  support::StepProgress progress("judging");
  constexpr std::int64_t parts = 6;
  std::int64_t part = 0;
  const auto next = [&] { progress.show(++part, parts); };
  const std::int64_t n = judged->images.size(0);
  const Judgement of_samples = judge(judge_net, judged->images);
  next();
  const Judgement of_test = judge(judge_net, test.images);
  next();
  const Figures figures = figures_of(of_samples, judged->labels, of_test, test.labels);
  next();
  std::optional<Figures> floor;
  if (!training.is_test) {
    const at::Tensor some = classes_in_turn_among(training.labels, n);
    const at::Tensor labels = training.labels.index_select(0, some);
    floor = figures_of(judge(judge_net, training.images.index_select(0, some)), labels, of_test,
                       test.labels);
  }
  next();
  const fm::Nearest nearest = nearest_images(judged->images, seen.images);
  next();
  const Json copies = memorisation(nearest, seen, test);
  next();
  const double accuracy = agreement(of_test.classes, test.labels);
  const std::string reference = o.held_out > 0 ? "held-out" : "test";
  print(figures, floor, copies, reference);
  std::cout << fmt::format("the judge gives {:.1f} % of the {} images their class\n",
                           100 * accuracy, reference);

  Json json = {{"program", evaluation_program},
               {"origin", judged->origin},
               {"trained_on", judged->trained_on},
               {"against", reference},
               {"warnings", Json::array()},
               {"judge",
                {{"folder", o.judge.string()},
                 {"trained_on", judge_notes.get("note.data")},
                 {"weights", judge_notes.get("file.model.pt")},
                 {"test_images_judged_as_their_class", accuracy}}},
               {"samples", to_json(figures)},
               {"floor", to_json(floor)},
               {"nearest_image", copies}};
  const auto warn = [&](const char* what) {
    json["warnings"].push_back(what);
    std::cout << "NOTE: " << what << '\n';
  };
  if (trained_on_test)
    warn("the run was trained on the test images that it is judged by, so its figures flatter it");
  if (judge_notes.get("note.data") == "test")
    warn("the judge was trained on the test images, so its figures mean little");
  if (!floor)
    warn("no training images were found: there is no floor, and the nearest are test images");
  if (n < 1000) warn("few samples: FID, precision, recall and coverage depend on their number");
  if (!o.json.empty()) {
    std::ofstream file(o.json);
    file << json.dump(1, ' ', false, Json::error_handler_t::replace) << '\n' << std::flush;
    if (!file)
      throw fm::DataError("cannot write " + o.json.string() + "; check the folder and its space");
  }
  if (!o.pairs.empty())
    support::write_png(o.pairs, picture_of_pairs(judged->images, seen.images, nearest));
  return support::success;
}

int main(int argc, char** argv) {
  CLI::App app("Judge samples of Fashion-MNIST", "fashion_mnist_evaluate");
  Options o;
  app.add_option("--samples", o.samples,
                 "FILE.npy: uint8, or float in [-1, 1], [N, 1, 28, 28]; sample i is of class i mod "
                 "10 unless --labels says else");
  app.add_option("--labels", o.labels, "FILE.npy: the class asked of each sample");
  app.add_option("--checkpoint", o.checkpoint,
                 "instead of --samples: draw them from a run; the sampling options are those of "
                 "fashion_mnist_sample");
  app.add_option("--n", o.n, "number of samples to draw");
  o.cli.add_to(app);
  app.add_option("--data", o.data,
                 "folder of the training images, for the floor and the nearest image (default: see "
                 "the README)");
  app.add_option("--held-out", o.held_out,
                 "judge against the last training images, so many, instead of the test images: to "
                 "choose by, where the run held them out (--validate)");
  app.add_option("--judge", o.judge, "folder of fashion_mnist_classifier");
  app.add_option("--json", o.json, "also write the figures as JSON");
  app.add_option("--pairs", o.pairs, "also write a picture of samples beside the nearest images");
  o.machine.add_to(app);
  return support::run_main(app, argc, argv, [&] { return evaluate(o); });
}
