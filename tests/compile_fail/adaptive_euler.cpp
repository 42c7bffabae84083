// expect: this method has no error estimate
#include "flowmatch/flowmatch.hpp"

namespace fm = flowmatch;

void wrong() {
  auto velocity = [](const at::Tensor& x, const at::Tensor&) { return x; };
  fm::Sampler sampler(velocity, fm::ode::Euler{}, fm::AdaptiveOptions{});
}
