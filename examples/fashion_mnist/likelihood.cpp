// How likely a trained network finds the test images, in bits per dimension:
//   fashion_mnist_likelihood --n 64
// Each grey level stands for the interval around it (uniform dequantisation), so that the density
// of a real-valued model bounds the probability of the image: -log2 p(x) / D - log2(level), where a
// level is what grey levels lie apart. D counts what the network sees, with its padding.

#include "flowmatch/sample/likelihood.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <vector>

#include "examples/fashion_mnist/dataset.hpp"
#include "examples/fashion_mnist/sampling.hpp"
#include "examples/support/machine.hpp"
#include "examples/support/progress.hpp"
#include "examples/support/run_main.hpp"
#include "flowmatch/ode/runge_kutta.hpp"

namespace fs = std::filesystem;
using namespace fashion_mnist;

struct Options {
  fs::path checkpoint =
      fs::path(FLOWMATCH_SOURCE_DIR) / "examples" / "models" / "fashion-mnist-flow";
  fs::path data = fs::path(FLOWMATCH_SOURCE_DIR) / "examples" / "data" / "fashion-mnist";
  std::int64_t n = 64;
  std::int64_t batch = 32;
  std::int64_t probes = 1;
  double tolerance = 1e-3;
  std::uint64_t seed = 42;
  support::MachineOptions machine;
};

int likelihood(const Options& o) {
  const c10::Device device = o.machine.set_up();
  if (o.batch < 1) throw fm::OptionError(fmt::format("--batch is {}; choose at least 1", o.batch));
  const Dataset data = load_dataset(o.data, std::cerr);
  if (o.n < 2 || o.n > data.images.size(0)) {
    throw fm::OptionError(fmt::format("--n is {}; choose 2 to {}", o.n, data.images.size(0)));
  }
  TrainedModel model = load_model(o.checkpoint, std::nullopt, device);
  if (model.recipe.source == "blank") {
    throw fm::OptionError(
        "--checkpoint starts from a blank page, which has no density; give a run that starts from "
        "noise");
  }
  fm::Rng rng(o.seed);
  const Pixels& pixels = model.recipe.pixels;
  const double level = 2 * pixels.range / 255;  // a grey level
  at::Tensor x = pixels.from_images(data.images.slice(0, 0, o.n));
  x += (rng.uniform(x.sizes()) - 0.5) * level;

  support::StepProgress progress("images");
  std::vector<at::Tensor> log_probs;
  double back_and_forth = 0;
  std::int64_t evaluations = 0;
  for (std::int64_t first = 0; first < o.n; first += o.batch) {
    const std::int64_t last = std::min(first + o.batch, o.n);
    fm::Likelihood likelihood(
        velocity_of(model), fm::ode::Dopri5{},
        fm::AdaptiveOptions{.rtol = o.tolerance, .atol = o.tolerance},
        fm::Hutchinson{.probes = o.probes, .seed = o.seed + static_cast<std::uint64_t>(first)});
    const at::Tensor x_1 = x.slice(0, first, last).to(device);
    const at::Tensor labels = data.labels.slice(0, first, last).to(device);
    const fm::LikelihoodResult encoded = likelihood.log_prob(x_1, labels);
    log_probs.push_back(encoded.log_prob.cpu());
    evaluations += encoded.statistics.evaluations * (last - first);
    if (first == 0) {  // from the noise that they encode to, the images come back
      const fm::LikelihoodResult decoded = likelihood.sample_from(encoded.x, labels);
      back_and_forth = (decoded.x - x_1).abs().mean().item<double>() / level;
    }
    progress.show(last, o.n);
  }
  const at::Tensor bits = at::cat(log_probs).to(at::kDouble) / -std::log(2.0);
  const at::Tensor each = bits / static_cast<double>(x[0].numel()) - std::log2(level);
  std::cout << fmt::format("{:.3f} +- {:.3f} bits per dimension\n", each.mean().item<double>(),
                           each.std().item<double>() / std::sqrt(static_cast<double>(o.n)));
  std::cout << fmt::format(
      "{} images, {} probes, {:.0f} evaluations an image; there and back: "
      "{:.2f} grey levels off on average\n",
      o.n, o.probes, static_cast<double>(evaluations) / static_cast<double>(o.n), back_and_forth);
  return support::success;
}

int main(int argc, char** argv) {
  CLI::App app("Bits per dimension of test images", "fashion_mnist_likelihood");
  Options o;
  app.add_option("--checkpoint", o.checkpoint,
                 "a run's folder, or one checkpoint (default: the network in the project)");
  app.add_option("--data", o.data, "folder of images (default: the test images in the project)");
  app.add_option("--n", o.n, "number of images");
  app.add_option("--batch", o.batch, "images that go through the network together");
  app.add_option("--probes", o.probes, "draws of Hutchinson's estimate of the divergence");
  app.add_option("--tolerance", o.tolerance, "of dopri5, relative and absolute");
  app.add_option("--seed", o.seed, "of the dequantisation and the probes");
  o.machine.add_to(app);
  return support::run_main(app, argc, argv, [&] { return likelihood(o); });
}
