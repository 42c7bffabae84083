#include "flowmatch/checkpoint/generators.hpp"

#include "tests/support/test.hpp"

TEST_CASE("generators: the default generator's state comes back") {
  at::manual_seed(5);
  torch::rand({3});
  const fm::StateDict states = fm::generator_states(c10::kCPU);
  const at::Tensor expected = torch::randn({7});
  at::manual_seed(6);
  fm::restore_generators(states, c10::kCPU);
  REQUIRE(torch::equal(torch::randn({7}), expected));
}
