// Draws clothes with a trained network:
//   fashion_mnist_sample --out clothes.png      (with the network that comes with the project)
//   fashion_mnist_sample --checkpoint runs/flow --n 2048 --solver midpoint --out samples.npy

#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "examples/fashion_mnist/dataset.hpp"
#include "examples/fashion_mnist/sampling_cli.hpp"
#include "examples/support/machine.hpp"
#include "examples/support/picture.hpp"
#include "examples/support/progress.hpp"
#include "examples/support/run_main.hpp"
#include "examples/support/signals.hpp"
#include "flowmatch/io/npy.hpp"

namespace fs = std::filesystem;
using namespace fashion_mnist;

struct Options {
  fs::path checkpoint =
      fs::path(FLOWMATCH_SOURCE_DIR) / "examples" / "models" / "fashion-mnist-small";
  std::int64_t n = 80;
  std::string classes = "all";
  support::MachineOptions machine;
  fs::path out;
  fs::path trajectory;
  bool bytes = false;
  SamplingCli cli;
};

at::Tensor class_labels(const std::string& classes, std::int64_t n) {
  if (classes == "all") return classes_in_turn(n);
  if (classes.size() == 1 && classes[0] >= '0' && classes[0] <= '9')
    return at::full({n}, classes[0] - '0', at::kLong);
  throw fm::OptionError("--class is '" + classes + "'; choose all, or one of 0 to 9");
}

// .npy: the array; .png: a grid; anything else: a folder with a PNG an image.
void write_images(const fs::path& out, const at::Tensor& images, bool bytes) {
  if (out.extension() == ".npy") {
    std::error_code ignored;  // save_npy reports a folder that is not there
    if (out.has_parent_path()) fs::create_directories(out.parent_path(), ignored);
    fm::save_npy(out, bytes ? to_bytes(images) : images);
  } else if (out.extension() == ".png") {
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

int sample(Options o) {
  const c10::Device device = o.machine.set_up();
  o.cli.validate(o.n);
  SamplingOptions& sampling = o.cli.sampling;
  if (o.out.empty()) throw fm::OptionError("--out is empty; name a file or a folder");
  for (const fs::path& file : {o.out, o.trajectory}) {  // now, not after the sampling
    if (file.extension() == ".png") support::check_png_path(file);
  }
  const at::Tensor labels = class_labels(o.classes, o.n).to(device);
  TrainedModel model = o.cli.load(o.checkpoint, device);

  const support::StopOnSignal signals;
  support::StepProgress progress("sampling");
  std::vector<at::Tensor> strip;  // the first eight samples after each step
  sampling.observer = [&](const at::Tensor& x, std::int64_t step, std::int64_t steps) {
    progress.show(step, steps);
    if (!o.trajectory.empty())
      strip.push_back(model.recipe.pixels.to_images(x.slice(0, 0, 8)).cpu());
    return !signals.token().stop_requested();
  };
  fm::Rng rng(sampling.seed);
  const at::Tensor x_0 = starts(model.recipe, o.n, rng).to(device);
  if (!o.trajectory.empty()) {
    if (o.n > sampling.batch)
      throw fm::OptionError("--trajectory shows one batch; choose --n at most --batch");
    strip.push_back(model.recipe.pixels.to_images(x_0.slice(0, 0, 8)).cpu());
  }
  const Samples samples = sample_images(model, x_0, labels, sampling);
  if (signals.token().stop_requested()) {
    std::cerr << "stopped; nothing was written\n";
    return support::interrupted;
  }
  write_images(o.out, samples.images, o.bytes);
  if (!o.trajectory.empty()) {
    // Eleven moments from noise to cloth, a row an image.
    std::vector<at::Tensor> moments;
    for (std::size_t i = 0; i <= 10; ++i) moments.push_back(strip[i * (strip.size() - 1) / 10]);
    const at::Tensor rows = at::stack(moments, 1).flatten(0, 1);
    support::write_png(o.trajectory, support::image_grid(rows, 11));
  }
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
  o.machine.add_to(app);
  return support::run_main(app, argc, argv, [&] { return sample(o); });
}
