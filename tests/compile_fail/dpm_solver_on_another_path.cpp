// expect: the model is a velocity of another one; give Rescheduled
#include "flowmatch/flowmatch.hpp"

namespace fm = flowmatch;

void wrong() {
  auto network = [](const at::Tensor& x, const at::Tensor&) { return x; };
  fm::Sampler sampler(fm::VelocityFromEpsilon(network, fm::CosineScheduler{}), fm::DpmSolver<2>{},
                      fm::TimeGrid::uniform(10));
}
