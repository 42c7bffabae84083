#include "flowmatch/parallel/shard.hpp"

#include <tuple>
#include <vector>

#include "tests/support/test.hpp"

namespace {
fm::Noised<at::Tensor> example(std::int64_t n) {
  const at::Tensor x = torch::arange(2 * n, torch::kDouble).view({n, 2});
  return {x, x.select(1, 0) / 10, -x, torch::arange(n)};
}
}  // namespace

TEST_CASE("shard: the ranks' parts together are the whole in its order") {
  for (const std::int64_t n : {1, 2, 7, 8}) {
    const auto whole = example(n);
    for (const std::int64_t size : {1, 2, 3, 5}) {
      INFO(n << " samples on " << size << " ranks");
      std::vector<at::Tensor> x, t, target, labels;
      for (std::int64_t rank = 0; rank < size; ++rank) {
        const auto part = fm::shard(whole, rank, size);
        const std::int64_t mine = part.x_t.size(0);
        REQUIRE((mine == n / size || mine == (n + size - 1) / size));
        x.push_back(part.x_t);
        t.push_back(part.t);
        target.push_back(part.target);
        labels.push_back(part.condition);
      }
      REQUIRE(torch::equal(torch::cat(x), whole.x_t));
      REQUIRE(torch::equal(torch::cat(t), whole.t));
      REQUIRE(torch::equal(torch::cat(target), whole.target));
      REQUIRE(torch::equal(torch::cat(labels), whole.condition));
    }
  }
}

TEST_CASE("shard: conditions of any type are cut with their samples") {
  const auto e = example(4);
  const fm::Noised<std::tuple<at::Tensor, at::Tensor>> whole{
      e.x_t, e.t, e.target, {e.condition, e.x_t}};
  const auto part = fm::shard(whole, 1, 2);
  REQUIRE(torch::equal(std::get<0>(part.condition), torch::tensor({2, 3})));
  REQUIRE(torch::equal(std::get<1>(part.condition), part.x_t));
  const fm::Noised<> unconditional{e.x_t, e.t, e.target, {}};
  REQUIRE(fm::shard(unconditional, 0, 2).x_t.size(0) == 2);
}
