// Paints in what is hidden of test images:
//   fashion_mnist_inpaint --out inpainting.png
// The lower half, or a square in the middle, by Inpainting, of the network alone and of the network
// led by LinearInverse; and the picture out of one of half the size, by LinearInverse. A row is a
// cloth: as it is, what is seen of it, and several fillings from different noise. Prints how far
// the fillings are from what is seen, and how many of them the judge takes for the class that the
// cloth is of.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <iostream>
#include <vector>

#include "examples/fashion_mnist/classifier.hpp"
#include "examples/fashion_mnist/dataset.hpp"
#include "examples/fashion_mnist/sampling.hpp"
#include "examples/support/machine.hpp"
#include "examples/support/output_path.hpp"
#include "examples/support/picture.hpp"
#include "examples/support/progress.hpp"
#include "examples/support/run_main.hpp"
#include "examples/support/signals.hpp"
#include "flowmatch/model/inverse.hpp"
#include "flowmatch/ode/runge_kutta.hpp"
#include "flowmatch/sample/sampler.hpp"

namespace fs = std::filesystem;
using namespace fashion_mnist;

const fs::path project = FLOWMATCH_SOURCE_DIR;

struct Options {
  fs::path checkpoint = project / "examples" / "models" / "fashion-mnist-flow";
  fs::path data = project / "examples" / "data" / "fashion-mnist";
  fs::path judge = project / "examples" / "models" / "fashion-mnist-judge";
  fs::path out;
  std::int64_t n = 10;
  std::int64_t fillings = 5;
  std::int64_t steps = 25;
  std::uint64_t seed = 42;
  support::MachineOptions machine;
};

/// What is seen of a picture.
struct Problem {
  std::string name;
  at::Tensor known{};  ///< bool [1, 1, S, S]; undefined where half the size is all there is
  bool led = true;     ///< by LinearInverse
};

/// For pictures of size x size.
std::vector<Problem> problems(std::int64_t size, c10::Device device) {
  const at::Tensor all = at::ones({1, 1, size, size}, at::TensorOptions(at::kBool).device(device));
  const at::Tensor upper = all.clone(), around = all.clone();
  const std::int64_t half = size / 2, quarter = size / 4;
  upper.slice(2, half).fill_(false);
  around.slice(2, quarter, quarter + half).slice(3, quarter, quarter + half).fill_(false);
  return {{"lower half", upper, false},
          {"lower half, led", upper},
          {"middle", around, false},
          {"middle, led", around},
          {"half the size"}};
}

at::Tensor half_the_size(const at::Tensor& x) { return at::avg_pool2d(x, {2, 2}); }

/// Completes x_1 [1, 1, S, S] from each start of x_0 [N, 1, S, S].
at::Tensor fill(const Problem& problem, const Velocity& velocity, const at::Tensor& x_1,
                const at::Tensor& x_0, const at::Tensor& labels, std::int64_t steps) {
  const auto sample = [&](const auto& led) {
    return fm::Sampler(led, fm::ode::Heun2{}, fm::TimeGrid::uniform(steps))
        .sample_from(x_0, labels);
  };
  if (!problem.known.defined())
    return sample(fm::LinearInverse(velocity, half_the_size, half_the_size(x_1)));
  if (!problem.led) return sample(fm::Inpainting(velocity, x_1, problem.known));
  const auto seen = [&](const at::Tensor& x) { return x * problem.known; };
  return sample(fm::Inpainting(fm::LinearInverse(velocity, seen, seen(x_1)), x_1, problem.known));
}

/// What is seen, as a picture of full size.
at::Tensor shown(const Problem& problem, const at::Tensor& x_1) {
  if (problem.known.defined()) return at::where(problem.known, x_1, 0);
  return half_the_size(x_1).repeat_interleave(2, 2).repeat_interleave(2, 3);
}

/// Mean squared difference in what is seen.
double off(const Problem& problem, const at::Tensor& x, const at::Tensor& x_1) {
  const at::Tensor error = (x - x_1).expand_as(x);
  const at::Tensor seen = problem.known.defined()
                              ? error.masked_select(problem.known.expand_as(error))
                              : half_the_size(error);
  return seen.square().mean().item<double>();
}

/// n images whose classes go in turn. Throws DataError where there are not so many.
Dataset in_turn(const Dataset& all, std::int64_t n) {
  std::vector<at::Tensor> rows;
  for (std::int64_t i = 0; i < n; ++i) {
    const at::Tensor of_class = all.labels.eq(i % 10).nonzero().flatten();
    if (of_class.size(0) <= i / 10) {
      throw fm::DataError(
          fmt::format("the data have only {} images of class {}; choose a lower --n",
                      of_class.size(0), i % 10));
    }
    rows.push_back(of_class[i / 10]);
  }
  const at::Tensor index = at::stack(rows);
  return {all.images.index_select(0, index), all.labels.index_select(0, index), all.is_test};
}

int inpaint(const Options& o) {
  const c10::Device device = o.machine.set_up();
  if (o.n < 1 || o.n > 1000 || o.fillings < 1 || o.steps < 1) {
    throw fm::OptionError(
        fmt::format("--n is {}, --fillings {} and --steps {}; choose n from 1 to 1000 and at "
                    "least 1 of the others",
                    o.n, o.fillings, o.steps));
  }
  support::check_picture_path(o.out);
  TrainedModel model = load_model(o.checkpoint, std::nullopt, device);
  if (model.recipe.source == "blank") {
    throw fm::OptionError(
        "--checkpoint starts from a blank page, from which there is one filling only; give a run "
        "that starts from noise");
  }
  const Pixels& pixels = model.recipe.pixels;
  const Dataset clothes = in_turn(load_dataset(o.data, std::cerr), o.n);
  const at::Tensor x_1 = pixels.from_images(clothes.images).to(device);
  Classifier judge_net = load_classifier(o.judge, device);
  const auto share = [&](const at::Tensor& images, const at::Tensor& labels) {
    return 100 * agreement(judge(judge_net, images).classes, labels);
  };
  std::cout << fmt::format("the clothes themselves: {:.1f} % judged as what they are\n",
                           share(clothes.images, clothes.labels));

  const support::StopOnSignal signals;
  const Velocity velocity = velocity_of(model);
  std::vector<support::Captioned> grids;
  for (const Problem& problem : problems(pixels.size, device)) {
    support::StepProgress progress(problem.name);
    fm::Rng rng(o.seed);
    std::vector<at::Tensor> rows, filled;
    double error = 0;
    for (std::int64_t i = 0; i < o.n; ++i) {
      const at::Tensor whole = x_1.slice(0, i, i + 1), x_0 = starts(model.recipe, o.fillings, rng);
      const at::Tensor labels = clothes.labels[i].repeat({o.fillings}).to(device);
      const at::Tensor x = fill(problem, velocity, whole, x_0.to(device), labels, o.steps);
      error += off(problem, x, whole) / static_cast<double>(o.n);
      filled.push_back(pixels.to_images(x).cpu());
      rows.push_back(at::cat(
          {pixels.to_images(at::cat({whole, shown(problem, whole)})).cpu(), filled.back()}));
      progress.show(i + 1, o.n);
      if (signals.token().stop_requested()) return support::interrupted;
    }
    std::cout << fmt::format(
        "{}: {:.1f} % of the fillings judged as the cloth's class; squared error of what is seen "
        "{:.2g}\n",
        problem.name,
        share(to_bytes(at::cat(filled)), clothes.labels.repeat_interleave(o.fillings)), error);
    grids.push_back({problem.name, support::image_grid(at::cat(rows), 2 + o.fillings, 1)});
  }
  support::write_png(o.out, support::sheet({grids}));
  std::cout << "wrote " << o.out.string() << '\n';
  return support::success;
}

int main(int argc, char** argv) {
  CLI::App app("Paint in what is hidden of test images", "fashion_mnist_inpaint");
  Options o;
  app.add_option("--checkpoint", o.checkpoint,
                 "a run's folder, or one checkpoint (default: the network in the project)");
  app.add_option("--data", o.data, "folder with the test images (default: those in the project)");
  app.add_option("--judge", o.judge, "folder of fashion_mnist_classifier");
  app.add_option("--n", o.n, "clothes, of the ten classes in turn");
  app.add_option("--fillings", o.fillings, "of each");
  app.add_option("--steps", o.steps, "of Heun's method, two evaluations each");
  app.add_option("--seed", o.seed, "of the noise");
  app.add_option("--out", o.out, "picture to write")->required();
  o.machine.add_to(app);
  return support::run_main(app, argc, argv, [&] { return inpaint(o); });
}
