// Draws clothes with a trained network:
//   fashion_mnist_sample --out clothes.png      (with the network that comes with the project)
//   fashion_mnist_sample --checkpoint runs/flow --n 2048 --solver midpoint --out samples.npy

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "examples/fashion_mnist/dataset.hpp"
#include "examples/fashion_mnist/sampling_cli.hpp"
#include "examples/support/apng.hpp"
#include "examples/support/filmstrip.hpp"
#include "examples/support/machine.hpp"
#include "examples/support/output_path.hpp"
#include "examples/support/picture.hpp"
#include "examples/support/progress.hpp"
#include "examples/support/run_main.hpp"
#include "examples/support/signals.hpp"
#include "flowmatch/io/npy.hpp"

namespace fs = std::filesystem;
using namespace fashion_mnist;

struct Options {
  fs::path checkpoint =
      fs::path(FLOWMATCH_SOURCE_DIR) / "examples" / "models" / "fashion-mnist-flow";
  std::int64_t n = 80;
  std::string classes = "all";
  support::MachineOptions machine;
  fs::path out;
  fs::path trajectory;
  fs::path animation;
  bool bytes = false;
  SamplingCli cli;
};

at::Tensor class_labels(const std::string& classes, std::int64_t n) {
  if (classes == "all") return classes_in_turn(n);
  if (classes.size() == 1 && classes[0] >= '0' && classes[0] <= '9')
    return at::full({n}, classes[0] - '0', at::kLong);
  throw fm::OptionError("--class is '" + classes + "'; choose all, or one of 0 to 9");
}

/// Throws before the sampling for what could not be written after it, or would mix with what is
/// there.
void check_outputs(const Options& o) {
  if (o.out.empty()) throw fm::OptionError("--out is empty; name a file or a folder");
  support::check_apart(
      {{"--out", o.out}, {"--trajectory", o.trajectory}, {"--animation", o.animation}});
  support::check_extension(o.out, {".npy", ".png"});
  const std::string kind = support::extension_of(o.out);
  if (kind == ".png") support::check_picture_path(o.out);
  for (const fs::path& file : {o.trajectory, o.animation}) {
    if (!file.empty()) support::check_picture_path(file);
  }
  if (kind == ".npy" || kind == ".png") return;
  std::error_code error;  // a folder that is not there holds nothing
  for (fs::directory_iterator entry(o.out, error), end; entry != end; entry.increment(error)) {
    if (support::extension_of(entry->path()) == ".png") {
      throw fm::OptionError(o.out.string() +
                            " holds pictures already, among which the samples would lie; choose "
                            "another --out, or remove them");
    }
  }
  support::check_picture_path(o.out / "00000.png");
}

// .npy: the array; .png: a grid; anything else: a folder with a PNG an image.
void write_images(const fs::path& out, const at::Tensor& images, bool bytes) {
  const std::string kind = support::extension_of(out);
  if (kind == ".npy") {
    std::error_code ignored;  // save_npy reports a folder that is not there
    if (out.has_parent_path()) fs::create_directories(out.parent_path(), ignored);
    fm::save_npy(out, bytes ? to_bytes(images) : images);
  } else if (kind == ".png") {
    support::write_png(out, support::image_grid(images, 10));
  } else {
    for (std::int64_t i = 0; i < images.size(0); ++i) {
      std::string name = std::to_string(i);
      name.insert(0, 5 - std::min<std::size_t>(name.size(), 5), '0');
      support::Canvas canvas(images.size(3), images.size(2));
      canvas.image(0, 0, images[i]);
      support::write_png(out / (name + ".png"), canvas.picture());
    }
  }
}

// Eleven moments from noise to cloth, a row an image, of the first eight.
support::Picture picture_of_trajectory(const support::Filmstrip& strip) {
  std::vector<at::Tensor> moments;
  for (const at::Tensor& moment : strip.evenly(11)) moments.push_back(moment.slice(0, 0, 8));
  return support::image_grid(at::stack(moments, 1).flatten(0, 1), 11);
}

// The grid of those in the strip, in 20 frames and two seconds; the clothes stand longer. Noise
// packs badly: 32 greys instead of 256 halve the file, and nobody sees it.
std::vector<support::Frame> animate(const support::Filmstrip& strip) {
  constexpr double steps = 31;
  std::vector<support::Frame> frames;
  for (const at::Tensor& moment : strip.evenly(std::min<std::size_t>(strip.size(), 20))) {
    const at::Tensor greys = ((moment + 1) / 2 * steps).round() / steps * 2 - 1;
    frames.push_back({support::image_grid(greys, 10), 100});
  }
  frames.back().milliseconds = 2500;
  return frames;
}

int sample(Options o) {
  const c10::Device device = o.machine.set_up();
  o.cli.validate(o.n);
  SamplingOptions& sampling = o.cli.sampling;
  check_outputs(o);
  const at::Tensor labels = class_labels(o.classes, o.n).to(device);
  TrainedModel model = o.cli.load(o.checkpoint, device);

  const support::StopOnSignal signals;
  support::StepProgress progress("sampling");
  const bool filmed = !o.trajectory.empty() || !o.animation.empty();
  support::Filmstrip strip;  // the first samples after each step
  const auto film = [&](const at::Tensor& x) {
    if (filmed) strip.add(model.recipe.pixels.to_images(x.slice(0, 0, 40)).cpu());
  };
  sampling.observer = [&](const at::Tensor& x, std::int64_t step, std::int64_t steps) {
    progress.show(step, steps);
    film(x);
    return !signals.token().stop_requested();
  };
  fm::Rng rng(sampling.seed);
  const at::Tensor x_0 = starts(model.recipe, o.n, rng).to(device);
  if (filmed && o.n > sampling.batch) {
    throw fm::OptionError(
        "--trajectory and --animation show one batch; choose --n at most --batch");
  }
  film(x_0);
  const Samples samples = sample_images(model, x_0, labels, sampling);
  if (signals.token().stop_requested()) {
    std::cerr << "stopped; nothing was written\n";
    return support::interrupted;
  }
  write_images(o.out, samples.images, o.bytes);
  if (!o.trajectory.empty()) support::write_png(o.trajectory, picture_of_trajectory(strip));
  if (!o.animation.empty()) support::write_apng(o.animation, animate(strip));
  std::cerr << "wrote " << o.n << " samples to " << o.out.string() << ", " << samples.evaluations
            << " evaluations a sample\n";
  return support::success;
}

int main(int argc, char** argv) {
  CLI::App app("Sample Fashion-MNIST with a trained network", "fashion_mnist_sample");
  Options o;
  app.add_option("--checkpoint", o.checkpoint,
                 "a run's folder, or one checkpoint (default: the network in the project)");
  app.add_option("--n", o.n, "number of samples");
  app.add_option("--class", o.classes, "all (sample i is of class i mod 10), or 0 to 9");
  o.cli.add_to(app);
  app.add_option("--out", o.out,
                 "FILE.npy (float32 [N, 1, 28, 28] in [-1, 1]), FILE.png (a grid) or a folder")
      ->required();
  app.add_flag("--uint8", o.bytes, "write the .npy as uint8 in 0 to 255");
  app.add_option("--trajectory", o.trajectory,
                 "also write a picture of eight samples on their way from the noise");
  app.add_option("--animation", o.animation,
                 "FILE.png: also write an animated PNG of the first 40 samples on that way");
  o.machine.add_to(app);
  return support::run_main(app, argc, argv, [&] { return sample(o); });
}
