#include "flowmatch/checkpoint/generators.hpp"

#include <stdexcept>

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

TEST_CASE("generators: what is drawn in a scope does not count, whatever ends it") {
  at::manual_seed(5);
  const at::Tensor expected = torch::randn({7});
  at::manual_seed(5);
  try {
    const fm::GeneratorsScope scope(c10::kCPU);
    torch::randn({3});
    throw std::runtime_error("broken");
  } catch (const std::runtime_error&) {
  }
  REQUIRE(torch::equal(torch::randn({7}), expected));
}
