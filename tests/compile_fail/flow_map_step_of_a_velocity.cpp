// expect: this method needs a model of average velocities
#include "flowmatch/flowmatch.hpp"

namespace fm = flowmatch;

void wrong() {
  const auto velocity = [](const at::Tensor& x, const at::Tensor&) { return x; };
  fm::Sampler(velocity, fm::FlowMapStep{}, fm::TimeGrid::uniform(1)).sample_from(at::Tensor());
}
