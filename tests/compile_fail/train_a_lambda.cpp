// expect: Trainer needs a torch::nn::Module
#include "flowmatch/flowmatch.hpp"

namespace fm = flowmatch;

void wrong() {
  auto velocity = [](const at::Tensor& x, const at::Tensor&) { return x; };
  fm::Trainer trainer(velocity, fm::VelocityNoisifier(fm::LinearPath{}));
}
