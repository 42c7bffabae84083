// expect: this is right along the straight path, and the model is a velocity of another one
#include "flowmatch/flowmatch.hpp"

namespace fm = flowmatch;

void wrong() {
  auto network = [](const at::Tensor& x, const at::Tensor&) { return x; };
  fm::Inpainting filled(fm::VelocityFromEpsilon(network, fm::CosineScheduler{}), torch::zeros({2}),
                        torch::zeros({2}, torch::kBool));
}
