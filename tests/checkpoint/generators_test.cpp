#include "flowmatch/checkpoint/generators.hpp"

#include <stdexcept>

#include "tests/support/test.hpp"

TEST_CASE("generators: the default generator's state comes back") {
  at::manual_seed(5);
  torch::rand({3}, test_device());
  const fm::StateDict states = fm::generator_states(test_device());
  const at::Tensor expected = torch::randn({7}, test_device());
  at::manual_seed(6);
  fm::restore_generators(states, test_device());
  REQUIRE(torch::equal(torch::randn({7}, test_device()), expected));
}

TEST_CASE("generators: what is drawn in a scope does not count, whatever ends it") {
  at::manual_seed(5);
  const at::Tensor expected = torch::randn({7}, test_device());
  at::manual_seed(5);
  try {
    const fm::GeneratorsScope scope(test_device());
    torch::randn({3}, test_device());
    throw std::runtime_error("broken");
  } catch (const std::runtime_error&) {
  }
  REQUIRE(torch::equal(torch::randn({7}, test_device()), expected));
}
