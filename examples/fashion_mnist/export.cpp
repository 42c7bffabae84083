// Makes a small folder of a run's newest checkpoint, for shipping: the weights alone, matrices as
// float16.
//   fashion_mnist_export --checkpoint runs/flow --out examples/models/fashion-mnist-small

#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <utility>

#include "examples/fashion_mnist/sampling.hpp"
#include "examples/support/run_main.hpp"
#include "flowmatch/train/checkpoint.hpp"

namespace fs = std::filesystem;
using namespace fashion_mnist;

int export_model(const fs::path& checkpoint, const fs::path& out) {
  TrainedModel model = load_model(checkpoint, std::nullopt, c10::kCPU);
  fm::StateDict state;
  for (const auto& entry : fm::state_dict(*model.net)) {
    // Biases and BatchNorm's statistics are small, and stay exact.
    state.insert(entry.key(), entry.value().dim() > 1 ? entry.value().to(at::kHalf).contiguous()
                                                      : entry.value());
  }
  fm::AtomicDirectory directory(out);
  fm::save_state_dict(directory.path() / "model.pt", state);
  fm::Manifest manifest;
  for (const auto& [name, value] : model.recipe.notes()) manifest.set("note." + name, value);
  fm::commit_checkpoint(directory, std::move(manifest));
  std::cerr << "wrote " << out.string() << '\n';
  return support::success;
}

int main(int argc, char** argv) {
  CLI::App app("Make a small folder of a run's weights", "fashion_mnist_export");
  fs::path checkpoint;
  fs::path out;
  app.add_option("--checkpoint", checkpoint, "a run's folder")->required();
  app.add_option("--out", out, "the folder to write")->required();
  return support::run_main(app, argc, argv, [&] { return export_model(checkpoint, out); });
}
