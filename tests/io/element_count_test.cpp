#include "flowmatch/io/element_count.hpp"

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "tests/support/test.hpp"

namespace {

std::optional<std::uint64_t> count(const std::vector<std::int64_t>& shape) {
  return fm::element_count(shape);
}

}  // namespace

TEST_CASE("element_count: the product of the sizes") {
  REQUIRE(count({}) == 1U);
  REQUIRE(count({7}) == 7U);
  REQUIRE(count({2, 3, 4}) == 24U);
  REQUIRE(count({2, 0, 4}) == 0U);
  REQUIRE(count({0}) == 0U);
}

TEST_CASE("element_count: as many as 64 bits of bytes hold and not one more") {
  const std::int64_t most = std::numeric_limits<std::int64_t>::max() / 8;  // 2^60 - 1
  REQUIRE(count({most}) == static_cast<std::uint64_t>(most));
  REQUIRE(count({most / 3, 3}) == static_cast<std::uint64_t>(most));
  REQUIRE_FALSE(count({most + 1}).has_value());
  REQUIRE_FALSE(count({std::int64_t{1} << 30, std::int64_t{1} << 30}).has_value());
  REQUIRE_FALSE(count({std::int64_t{1} << 32, std::int64_t{1} << 32}).has_value());  // 2^64 is 0
}

TEST_CASE("element_count: sizes beside a zero overflow and negative ones are no counts") {
  const std::int64_t large = std::int64_t{1} << 62;
  REQUIRE_FALSE(count({0, large, large}).has_value());
  REQUIRE_FALSE(count({large, large, 0}).has_value());
  REQUIRE_FALSE(count({-1}).has_value());
  REQUIRE_FALSE(count({-2, -3}).has_value());
  REQUIRE_FALSE(count({0, -1}).has_value());
}
