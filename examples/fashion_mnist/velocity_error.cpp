// How far the velocities that networks predict are from x_1 - x_0, over time:
//   fashion_mnist_velocity_error --checkpoint runs/post runs/flow --out velocity-error.svg
// The mean squared error of a pixel, and what a step of Euler's from t to 1 makes of it: the
// picture x_1 that the network expects is off by (1 - t) times the error, in the whole of it and in
// the black around the clothes, where it shows as grain. Runs of DDIM are asked at the same
// signal-to-noise ratio.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "examples/fashion_mnist/dataset.hpp"
#include "examples/fashion_mnist/sampling.hpp"
#include "examples/support/machine.hpp"
#include "examples/support/png.hpp"
#include "examples/support/progress.hpp"
#include "examples/support/run_main.hpp"
#include "examples/support/svg_plot.hpp"
#include "flowmatch/path/affine.hpp"

namespace fs = std::filesystem;
using namespace fashion_mnist;

struct Options {
  std::vector<fs::path> checkpoints;
  fs::path data = fs::path(FLOWMATCH_SOURCE_DIR) / "examples" / "data" / "fashion-mnist";
  fs::path out;
  std::vector<double> times = {0,   0.05, 0.1, 0.2,  0.3,   0.4,  0.5,   0.6,  0.7,
                               0.8, 0.85, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999};
  std::int64_t n = 1000;
  std::int64_t batch = 250;
  std::uint64_t seed = 42;
  support::MachineOptions machine;
};

/// Mean squared errors of a pixel's velocity, at each of the times.
struct Errors {
  std::vector<double> all;         ///< of the 28 x 28 without border
  std::vector<double> background;  ///< of those that are black, with all around, two pixels far
};

/// Every time has the same noise.
Errors errors_of(TrainedModel& model, const std::vector<double>& times, const Dataset& data,
                 const Options& o, const std::string& name) {
  const at::NoGradGuard no_grad;
  const c10::Device device = model.net->parameters().front().device();
  const Velocity velocity = velocity_of(model);
  const std::int64_t border = (model.recipe.pixels.size - 28) / 2;
  fm::Rng rng(o.seed);
  support::StepProgress progress(name);
  Errors errors{std::vector<double>(times.size(), 0.0), std::vector<double>(times.size(), 0.0)};
  double black_pixels = 0;
  for (std::int64_t first = 0; first < o.n; first += o.batch) {
    const Dataset part = data.slice(first, std::min(first + o.batch, o.n));
    const at::Tensor labels = part.labels.to(device);
    const at::Tensor x_1 = model.recipe.pixels.from_images(part.images).to(device);
    const at::Tensor x_0 = starts(model.recipe, x_1.size(0), rng).to(device);
    const at::Tensor black =
        at::max_pool2d(part.images.unsqueeze(1).to(at::kFloat), 5, 1, 2).eq(0).to(device);
    black_pixels += black.sum().item<double>();
    for (std::size_t i = 0; i < times.size(); ++i) {
      const at::Tensor t = at::full({x_1.size(0)}, times[i], x_1.options());
      const fm::PathSample on_path = fm::LinearPath{}.sample(x_0, x_1, t);
      const at::Tensor off = velocity(on_path.x_t, t, labels) - on_path.dx_t;
      const at::Tensor squares = off.narrow(2, border, 28).narrow(3, border, 28).square();
      errors.all[i] += squares.sum().item<double>();
      errors.background[i] += (squares * black).sum().item<double>();
    }
    progress.show(std::min(first + o.batch, o.n), o.n);
  }
  for (double& e : errors.all) e /= static_cast<double>(o.n * 28 * 28);
  for (double& e : errors.background) e /= std::max(black_pixels, 1.0);
  return errors;
}

int velocity_error(const Options& o) {
  const c10::Device device = o.machine.set_up();
  if (o.batch < 1) throw fm::OptionError(fmt::format("--batch is {}; choose at least 1", o.batch));
  for (const double t : o.times) {
    if (!(t >= 0 && t < 1))
      throw fm::OptionError(fmt::format("--times has {}; choose times in [0, 1)", t));
  }
  support::check_picture_path(o.out);
  const Dataset data = load_dataset(o.data, std::cerr);
  if (o.n < 1 || o.n > data.images.size(0))
    throw fm::OptionError(fmt::format("--n is {}; choose 1 to {}", o.n, data.images.size(0)));

  std::vector<support::Series> velocities, pictures;
  std::cout << fmt::format("{:<24}{:>8}{:>16}{:>24}{:>16}\n", "run", "t", "squared error",
                           "grey levels off at 1", "in the black");
  for (const fs::path& checkpoint : o.checkpoints) {
    TrainedModel model = load_model(checkpoint, std::nullopt, device);
    std::vector<double> times = o.times;
    if (model.recipe.method == "ddim") std::erase(times, 0.0);  // where epsilon says nothing of x_1
    const std::string name = fs::weakly_canonical(checkpoint).filename().string();
    support::Series& velocity = velocities.emplace_back(support::Series{name, {}, {}});
    support::Series& picture = pictures.emplace_back(support::Series{name, {}, {}});
    const Errors errors = errors_of(model, times, data, o, name);
    velocity.y = errors.all;
    const double grey_level = 2 * model.recipe.pixels.range / 255;
    for (std::size_t i = 0; i < times.size(); ++i) {
      const double t = times[i];
      velocity.x.push_back(t);
      picture.x.push_back(t);
      const auto grey_levels_off = [&](double squared) {
        return (1 - t) * std::sqrt(squared) / grey_level;
      };
      picture.y.push_back(grey_levels_off(velocity.y[i]));
      std::cout << fmt::format("{:<24}{:>8}{:>16.4f}{:>24.2f}{:>16.2f}\n", name, t, velocity.y[i],
                               picture.y[i], grey_levels_off(errors.background[i]));
    }
  }
  support::write_svg(o.out, {{velocities, "Mean squared error of the velocity, a pixel", "t"},
                             {pictures, "Grey levels that a step of Euler's from t to 1 is off",
                              "t", support::Scale::logarithmic}});
  std::cerr << "wrote " << o.out.string() << '\n';
  return support::success;
}

int main(int argc, char** argv) {
  CLI::App app("The error of predicted velocities over time", "fashion_mnist_velocity_error");
  Options o;
  app.add_option("--checkpoint", o.checkpoints, "runs, a line each")->required();
  app.add_option("--data", o.data, "folder of images (default: the test images in the project)");
  app.add_option("--out", o.out, "FILE.svg")->required();
  app.add_option("--times", o.times, "in [0, 1)")->delimiter(',');
  app.add_option("--n", o.n, "number of images");
  app.add_option("--batch", o.batch, "images that go through the network together");
  app.add_option("--seed", o.seed, "of the noise");
  o.machine.add_to(app);
  return support::run_main(app, argc, argv, [&] { return velocity_error(o); });
}
