// expect: one that draws fresh noise would put it into the density
#include "flowmatch/flowmatch.hpp"

namespace fm = flowmatch;

void wrong() {
  auto velocity = [](const at::Tensor& x, const at::Tensor&) { return x; };
  fm::Likelihood likelihood(velocity, fm::DpmSolver<2>{}, fm::TimeGrid::uniform(10));
}
