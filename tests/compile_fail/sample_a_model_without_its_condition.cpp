// expect: this model cannot be called as forward
#include "flowmatch/flowmatch.hpp"
#include "tests/support/networks.hpp"

void wrong(fm::Rng& rng) {
  networks::Conditional net;
  fm::Sampler(net, fm::ode::Euler{}, fm::TimeGrid::uniform(10)).sample({4, 1, 8, 8}, rng);
}
