// Takes a run's weights out, for shipping or for Python; and in again.
//   fashion_mnist_export --checkpoint runs/flow --half --out examples/models/fashion-mnist-flow
//   fashion_mnist_export --checkpoint runs/flow --out flow.safetensors          (or flow.pt)
//   fashion_mnist_export --weights flow.safetensors --out runs/from-python
// A folder is a checkpoint of the weights alone. Files have the names of the same network in Python
// (tests/benchmark/unet.py).

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "examples/fashion_mnist/python_names.hpp"
#include "examples/fashion_mnist/recipe_cli.hpp"
#include "examples/fashion_mnist/sampling.hpp"
#include "examples/support/output_path.hpp"
#include "examples/support/run_main.hpp"
#include "flowmatch/checkpoint/checkpoint.hpp"
#include "flowmatch/io/safetensors.hpp"
#include "flowmatch/model/name_map.hpp"

namespace fs = std::filesystem;
using namespace fashion_mnist;

struct Options {
  fs::path checkpoint;
  fs::path weights;
  std::string part;
  RecipeCli recipe;
  bool half = false;
  fs::path out;
};

TrainedModel model_from_python(const Options& o) {
  TrainedModel model;
  model.recipe = o.recipe.recipe();
  model.net = UNet(model.recipe.net);
  const fm::StateDict theirs = support::extension_of(o.weights) == ".safetensors"
                                   ? fm::load_safetensors(o.weights).tensors
                                   : fm::read_state_dict(o.weights, o.part);
  fm::load_state_dict(*model.net, fm::renamed(theirs, from_python_names(model.recipe.net)));
  return model;
}

/// Throws OptionError before any work where --out would replace what is no earlier export.
void check_out(const Options& o) {
  if (o.out.empty()) throw fm::OptionError("--out is empty; name a file or a folder");
  support::check_apart(
      {{"--checkpoint", o.checkpoint}, {"--weights", o.weights}, {"--out", o.out}});
  const std::vector<std::string> files = {".safetensors", ".pt"};
  support::check_extension(o.out, files);
  std::error_code error;
  if (std::count(files.begin(), files.end(), support::extension_of(o.out)) > 0 ||
      !fs::exists(o.out, error))
    return;
  std::set<fs::path> found;
  for (fs::directory_iterator entry(o.out, error), end; entry != end; entry.increment(error))
    found.insert(entry->path().filename());
  if (error || !(found.empty() || found == std::set<fs::path>{"manifest.txt", "model.pt"})) {
    throw fm::OptionError(o.out.string() +
                          " is there and no earlier export; choose another --out, or remove it");
  }
}

void write_checkpoint(const fs::path& folder, const fm::StateDict& state, const Recipe& recipe) {
  fm::AtomicDirectory directory(folder);
  fm::save_state_dict(directory.path() / "model.pt", state);
  fm::Manifest manifest;
  for (const auto& [name, value] : recipe.notes()) manifest.set("note." + name, value);
  fm::commit_checkpoint(directory, std::move(manifest));
}

int export_model(const Options& o) {
  if (o.checkpoint.empty() == o.weights.empty())
    throw fm::OptionError("give either --checkpoint or --weights");
  check_out(o);
  const TrainedModel model = o.checkpoint.empty()
                                 ? model_from_python(o)
                                 : load_model(o.checkpoint, std::nullopt, c10::kCPU);
  fm::StateDict state;
  for (const auto& entry : fm::state_dict(*model.net)) {
    // Biases and BatchNorm's statistics are small, and stay exact.
    const bool halve = o.half && entry.value().dim() > 1;
    state.insert(entry.key(), (halve ? entry.value().to(at::kHalf) : entry.value()).contiguous());
  }
  const fm::NameMap to_python = from_python_names(model.recipe.net).inverse();
  const std::string kind = support::extension_of(o.out);
  if (kind == ".safetensors") {
    fm::save_safetensors(o.out, fm::renamed(state, to_python), model.recipe.notes());
  } else if (kind == ".pt") {
    fm::save_state_dict(o.out, fm::renamed(state, to_python));
  } else {
    write_checkpoint(o.out, state, model.recipe);
  }
  std::cerr << "wrote " << o.out.string() << '\n';
  return support::success;
}

int main(int argc, char** argv) {
  CLI::App app("Take a run's weights out, or in again", "fashion_mnist_export");
  Options o;
  app.add_option("--checkpoint", o.checkpoint, "a run's folder");
  app.add_option("--weights", o.weights, "Python's weights instead: .safetensors or .pt");
  app.add_option("--part", o.part, "of a .pt that holds several things, the weights' name");
  o.recipe.add_network_to(app);  // of --weights
  app.add_flag("--half", o.half, "matrices as float16");
  app.add_option("--out", o.out, "a folder, or a .safetensors or .pt file for Python")->required();
  return support::run_main(app, argc, argv, [&] { return export_model(o); });
}
