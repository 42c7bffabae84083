#include "flowmatch/model/value_checks.hpp"

#include "tests/support/test.hpp"

TEST_CASE("value_checks: a sparse tensor has no memory of its own to speak of", "[sparse]") {
  const fm::detail::MemorySharing sharing;
  CHECK_FALSE(sharing.is_alone(on_device::eye(2).to_sparse()));
  CHECK(sharing.is_alone(on_device::zeros({0, 2})));
}
