// Snippets of docs/python.md, compiled and run.

#include <torch/torch.h>

#include <filesystem>
#include <flowmatch/flowmatch.hpp>
#include <iostream>

namespace fm = flowmatch;

int main() {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / "flowmatch-python-snippets";
  std::filesystem::create_directories(folder);
  const std::filesystem::path file = folder / "weights.safetensors", pt = folder / "weights.pt";
  torch::nn::Sequential net(torch::nn::Linear(3, 8), torch::nn::SiLU(), torch::nn::Linear(8, 2));

  fm::save_safetensors(file, fm::state_dict(*net), {{"epochs", "5"}});  // or:
  fm::save_state_dict(pt, fm::state_dict(*net));

  fm::load_state_dict(*net, fm::load_safetensors(file).tensors);  // or:
  fm::load_state_dict(*net, fm::read_state_dict(pt));

  const fm::NameMap ours{{"module.encoder", "0"}, {"module.head", "2"}};  // theirs, ours
  const fm::StateDict theirs = fm::renamed(fm::state_dict(*net), ours.inverse());
  fm::load_state_dict(*net, fm::renamed(theirs, ours));

  const fm::LoadReport report = fm::load_state_dict(*net, theirs, {.strict = false});
  if (!report.fits()) std::cout << report.text();

  fm::StateDict state{{"weight", at::ones({2, 3})}};
  state["bias"] = at::zeros({2});
  for (const auto& [name, tensor] : state)
    std::cout << name << ' ' << fm::shape_text(tensor) << '\n';

  std::filesystem::remove_all(folder);
  return 0;
}
