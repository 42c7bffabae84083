#include "examples/support/filmstrip.hpp"

#include "tests/support/test.hpp"

using support::Filmstrip;

namespace {

// The moments 0, 1, … n - 1 through a strip, those shown evenly.
std::vector<int> through(std::size_t most, int n, std::size_t shown) {
  Filmstrip strip(most);
  for (int i = 0; i < n; ++i) strip.add(torch::tensor(i));
  std::vector<int> values;
  for (const at::Tensor& moment : strip.evenly(shown)) values.push_back(moment.item<int>());
  return values;
}

}  // namespace

TEST_CASE("filmstrip: the first and the last are among those that are shown") {
  REQUIRE(through(256, 11, 11) == std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  REQUIRE(through(256, 11, 3) == std::vector<int>{0, 5, 10});
  REQUIRE(through(256, 3, 5) == std::vector<int>{0, 0, 1, 1, 2});
  REQUIRE(through(256, 4, 1) == std::vector<int>{3});
  REQUIRE(through(256, 0, 4).empty());
}

TEST_CASE("filmstrip: a long strip is thinned evenly and stays bounded") {
  for (int n = 1; n < 200; ++n) {
    Filmstrip strip(8);
    for (int i = 0; i < n; ++i) strip.add(torch::tensor(i));
    INFO(n << " moments, " << strip.size() << " kept");
    REQUIRE(strip.size() <= 9);
    const std::vector<int> all = through(8, n, strip.size());
    REQUIRE(all.front() == 0);
    REQUIRE(all.back() == n - 1);
    for (std::size_t i = 2; i + 1 < all.size(); ++i)
      REQUIRE(all[i] - all[i - 1] == all[1] - all[0]);
  }
}
