// expect: a velocity of another path than the one that Rescheduled is told
#include "flowmatch/flowmatch.hpp"

namespace fm = flowmatch;

void wrong() {
  auto network = [](const at::Tensor& x, const at::Tensor&) { return x; };
  fm::Rescheduled model(fm::VelocityFromX1(network, fm::CosineScheduler{}), fm::VPScheduler{},
                        fm::CondOTScheduler{});
}
