// expect: this method draws fresh noise; give sample_from, solve or trajectory an Rng
#include "flowmatch/flowmatch.hpp"

namespace fm = flowmatch;

void wrong() {
  auto velocity = [](const at::Tensor& x, const at::Tensor&) { return x; };
  fm::Sampler sampler(velocity, fm::DpmSolver<2>{}, fm::TimeGrid::uniform(10));
  sampler.sample_from(at::Tensor{});
}
