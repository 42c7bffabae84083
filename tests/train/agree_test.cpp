#include "flowmatch/train/agree.hpp"

#include <array>
#include <cstdint>
#include <exception>
#include <vector>

#include "tests/support/ranks.hpp"

TEST_CASE("agree: a single process agrees with itself") {
  const fm::SingleProcess alone;
  const at::Tensor t = torch::arange(3);
  fm::broadcast_all(alone, {t});
  REQUIRE(torch::equal(t, torch::arange(3)));
  fm::require_same_on_all_ranks(alone, torch::kCPU, "the data", "text");
  REQUIRE(fm::any_rank(alone, torch::kCPU, true));
  REQUIRE(!fm::any_rank(alone, torch::kCPU, false));
}

TEST_CASE("agree: what one rank says holds for all") {
  std::array<bool, 3> none{}, one{};
  ranks::run_well(3, [&](const ranks::ThreadRank& rank) {
    const auto r = static_cast<std::size_t>(rank.rank());
    none[r] = fm::any_rank(rank, torch::kCPU, false);
    one[r] = fm::any_rank(rank, torch::kCPU, rank.rank() == 2);
  });
  REQUIRE(none == std::array{false, false, false});
  REQUIRE(one == std::array{true, true, true});
}

TEST_CASE("agree: broadcast_all gives every rank the values of rank 0 and keeps strides") {
  std::vector<std::vector<at::Tensor>> tensors(3);
  ranks::run_well(3, [&](const ranks::ThreadRank& rank) {
    const auto r = static_cast<std::size_t>(rank.rank());
    const double value = 7 + static_cast<double>(rank.rank());
    tensors[r] = {
        torch::full({2, 3}, value).requires_grad_(),
        torch::full({1, 2, 2, 2}, value, torch::kDouble).to(at::MemoryFormat::ChannelsLast),
        torch::full({}, static_cast<std::int64_t>(value), torch::kLong)};
    fm::broadcast_all(rank, tensors[r]);
  });
  for (const auto& mine : tensors) {
    for (const at::Tensor& t : mine) REQUIRE(t.eq(7).all().item<bool>());
    REQUIRE(mine[1].is_contiguous(at::MemoryFormat::ChannelsLast));
  }
}

TEST_CASE("agree: a description that differs is refused on every rank") {
  ranks::run_well(3, [](const ranks::ThreadRank& rank) {
    fm::require_same_on_all_ranks(rank, torch::kCPU, "the data", "the same");
  });
  const auto errors = ranks::run(3, [](const ranks::ThreadRank& rank) {
    fm::require_same_on_all_ranks(rank, torch::kCPU, "the data",
                                  rank.rank() == 1 ? "other" : "one");
  });
  for (const auto& error : errors) {
    REQUIRE(error);
    require_error<fm::OptionError>([&] { std::rethrow_exception(error); },
                                   "the data of 1 of 3 ranks is not that of rank 0");
  }
}
