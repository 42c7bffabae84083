// expect: this rule is right along the straight path, and the model is a velocity of another one
#include "flowmatch/flowmatch.hpp"

namespace fm = flowmatch;

void wrong() {
  auto network = [](const at::Tensor& x, const at::Tensor&) { return x; };
  fm::Autoguidance guided(fm::VelocityFromEpsilon(network, fm::CosineScheduler{}), network,
                          fm::IntervalGuidance(fm::ProjectedGuidance(2), 0.2, 0.8));
}
