// expect: the model is a velocity of another one; give Rescheduled
#include "flowmatch/flowmatch.hpp"

namespace fm = flowmatch;

// The adapter hides the model that it wraps, not its path.
void wrong() {
  auto network = [](const at::Tensor& x, const at::Tensor&) { return at::cat({x, x}, 1); };
  fm::Autoguidance guided(fm::FlowAndScore(network, 0.5), fm::FlowAndScore(network, 0.5),
                          fm::LinearGuidance(2));
  fm::Sampler sampler(guided, fm::DpmSolver<2>{}, fm::TimeGrid::uniform(10));
}
