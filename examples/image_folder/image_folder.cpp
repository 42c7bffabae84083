// Trains a small network on a folder of PNG images of one size, each sub-folder a class; a thread
// decodes them ahead of the training, so that no more than a few batches are in memory:
//   image_folder --images my/images --out runs/images
// Without --images it first draws discs and squares. Writes metrics.jsonl and samples.png.

#include "examples/support/image_folder.hpp"

#include <torch/torch.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <string>

#include "examples/support/machine.hpp"
#include "examples/support/picture.hpp"
#include "examples/support/png.hpp"
#include "examples/support/run_main.hpp"
#include "flowmatch/flowmatch.hpp"

namespace fs = std::filesystem;
namespace fm = flowmatch;

/// Four convolutions over the image, the time and an embedding of the class.
struct NetImpl : torch::nn::Module {
  NetImpl(std::int64_t channels, std::int64_t classes) {
    embedding = register_module("embedding", torch::nn::Embedding(classes, 8));
    const auto conv = [](std::int64_t in, std::int64_t out) {
      return torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, 5).padding(2));
    };
    layers = register_module(
        "layers", torch::nn::Sequential(conv(channels + 9, 32), torch::nn::SiLU(), conv(32, 32),
                                        torch::nn::SiLU(), conv(32, 32), torch::nn::SiLU(),
                                        conv(32, channels)));
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t, const at::Tensor& label) {
    const at::Tensor about = at::cat({t.unsqueeze(1), embedding->forward(label)}, 1);
    const at::Tensor planes =
        about.unsqueeze(2).unsqueeze(3).expand({-1, -1, x.size(2), x.size(3)});
    return layers->forward(at::cat({x, planes}, 1));
  }
  torch::nn::Embedding embedding{nullptr};
  torch::nn::Sequential layers{nullptr};
};
TORCH_MODULE(Net);

/// Discs and squares of 16 x 16 pixels, in a folder each.
void draw_shapes(const fs::path& folder, int n) {
  for (int i = 0; i < n; ++i) {
    support::Canvas disc(16, 16), square(16, 16);
    const double size = 3 + i % 4, x = 7 + i % 3, y = 7 + i / 3 % 3;
    disc.dot(x, y, size, support::blue);
    const auto edge = static_cast<std::int64_t>(2 * size);
    square.fill(static_cast<std::int64_t>(x - size), static_cast<std::int64_t>(y - size), edge,
                edge, support::orange);
    const std::string name = std::to_string(i) + ".png";
    support::write_png(folder / "discs" / name, disc.picture());
    support::write_png(folder / "squares" / name, square.picture());
  }
}

int main(int argc, char** argv) {
  CLI::App app("Train flow matching on a folder of images", "image_folder");
  fs::path folder, out;
  std::int64_t epochs = 300, batch = 32, channels = 3;
  std::uint64_t seed = 1;
  support::MachineOptions machine;
  app.add_option("--images", folder, "folder of PNG images, a sub-folder for each class");
  app.add_option("--out", out, "folder of the run")->required();
  app.add_option("--epochs", epochs, "passes over the images");
  app.add_option("--batch", batch, "batch size");
  app.add_option("--channels", channels, "1 for grey images, 3 for coloured ones");
  app.add_option("--seed", seed, "of initial weights, order, times and noise");
  machine.add_to(app);
  return support::run_main(app, argc, argv, [&] {
    const c10::Device device = machine.set_up();
    if (folder.empty()) draw_shapes(folder = out / "shapes", 36);
    support::check_picture_path(out / "samples.png");
    const support::ImageFolder images = support::list_images(folder, channels);
    const auto classes = static_cast<std::int64_t>(images.classes.size());
    std::cerr << images.files.size() << " images, " << images.height << " x " << images.width
              << " pixels, " << classes << " classes\n";

    torch::manual_seed(seed);
    Net net(images.channels, classes);
    net->to(device);
    fm::Trainer trainer(
        net, fm::VelocityNoisifier(fm::LinearPath{}),
        {.epochs = epochs, .learning_rate = 3e-3, .schedule = fm::one_cycle(), .seed = seed});
    fm::MetricsLog metrics(out / "metrics.jsonl");
    trainer.fit(fm::Prefetch(support::image_batches(images, batch, {.seed = seed})), metrics,
                fm::ProgressBar{});

    fm::Rng rng(seed, device);
    const at::Tensor labels =
        torch::arange(classes, at::TensorOptions(at::kLong).device(device)).repeat_interleave(8);
    const at::Tensor samples =
        fm::Sampler(net, fm::ode::Midpoint{}, fm::TimeGrid::uniform(20))
            .sample({8 * classes, images.channels, images.height, images.width}, rng, labels);
    support::write_png(out / "samples.png",
                       support::image_grid(samples.clamp(-1, 1).cpu().contiguous(), 8));
    std::cout << "wrote " << (out / "samples.png").string() << '\n';
    return support::success;
  });
}
