// What a checkpoint's network says to the inputs in a file; exchange.py compares it with Python:
//   exchange CHECKPOINT inputs.safetensors outputs.safetensors

#include <iostream>

#include "examples/fashion_mnist/sampling.hpp"
#include "flowmatch/io/safetensors.hpp"

namespace fm = flowmatch;

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: exchange CHECKPOINT inputs.safetensors outputs.safetensors\n";
    return 2;
  }
  const at::NoGradGuard no_grad;
  fashion_mnist::TrainedModel model = fashion_mnist::load_model(argv[1], std::nullopt, c10::kCPU);
  const fm::StateDict inputs = fm::load_safetensors(argv[2]).tensors;
  fm::StateDict outputs;
  outputs.insert("y", model.net->forward(inputs.at("x"), inputs.at("t"), inputs.at("classes")));
  fm::save_safetensors(argv[3], outputs);
  return 0;
}
