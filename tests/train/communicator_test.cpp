#include "flowmatch/train/communicator.hpp"

#include <string>
#include <vector>

#include "tests/support/ranks.hpp"

namespace {
struct Silent {
  int rank() const { return 0; }
  int size() const { return 1; }
};
}  // namespace

static_assert(fm::Communicator<fm::SingleProcess>);
static_assert(fm::Communicator<ranks::ThreadRank>);
static_assert(!fm::Communicator<Silent>);

TEST_CASE("communicator: a single process is rank 0 of 1 and leaves tensors alone") {
  const fm::SingleProcess alone;
  static_assert(alone.rank() == 0 && alone.size() == 1);
  const at::Tensor t = torch::arange(3);
  alone.all_reduce(t).wait();
  alone.broadcast(t);
  alone.barrier();
  fm::broadcast_all(alone, {t});
  fm::require_same_on_all_ranks(alone, torch::kCPU, "the data", "text");
  REQUIRE(torch::equal(t, torch::arange(3)));
}

TEST_CASE("communicator: broadcast_all gives every rank the values of rank 0 and keeps strides") {
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

TEST_CASE("communicator: a description that differs is refused on every rank") {
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
