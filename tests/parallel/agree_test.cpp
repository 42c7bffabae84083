#include "flowmatch/parallel/agree.hpp"

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
        torch::full({}, static_cast<std::int64_t>(value), torch::kLong),
        torch::full({2}, value, torch::kComplexDouble),
        torch::full({2}, value, torch::kHalf),
        torch::full({1}, value).expand({3}),
        torch::full({2, 3}, value).t(),
        torch::full({0, 2}, value),
        torch::full({2}, value).to(torch::kFloat8_e4m3fn)};
    fm::broadcast_all(rank, tensors[r]);
  });
  for (const auto& mine : tensors) {
    for (const at::Tensor& t : mine) {
      INFO(t.scalar_type() << " " << t.sizes());
      REQUIRE((t.element_size() == 1 ? t.to(torch::kFloat) : t).eq(7).all().item<bool>());
    }
    REQUIRE(mine[1].is_contiguous(at::MemoryFormat::ChannelsLast));
  }
}

TEST_CASE("agree: broadcast_all gives bool masks") {
  std::vector<at::Tensor> masks(2);
  ranks::run_well(2, [&](const ranks::ThreadRank& rank) {
    at::Tensor& mine = masks[static_cast<std::size_t>(rank.rank())];
    mine = torch::tensor({rank.rank() == 0, rank.rank() != 0, true});
    fm::broadcast_all(rank, {mine});
  });
  REQUIRE(torch::equal(masks[0], torch::tensor({true, false, true})));
  REQUIRE(torch::equal(masks[1], masks[0]));
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

TEST_CASE("agree: losses add up and a rank without one counts as zero") {
  std::vector<at::Tensor> sums(3);
  ranks::run_well(3, [&](const ranks::ThreadRank& rank) {
    const at::Tensor mine = rank.rank() == 2 ? at::Tensor{} : torch::full({}, 1.5, torch::kFloat);
    sums[static_cast<std::size_t>(rank.rank())] = fm::sum_over_ranks(rank, torch::kCPU, mine);
    if (mine.defined() && mine.item<double>() != 1.5) throw fm::DataError("changed its argument");
  });
  for (const at::Tensor& sum : sums)
    REQUIRE(torch::equal(sum, torch::full({}, 3.0, torch::kDouble)));
  const at::Tensor loss = torch::ones({});
  REQUIRE(fm::sum_over_ranks(fm::SingleProcess{}, torch::kCPU, loss).is_same(loss));
}

TEST_CASE("agree: where a rank cannot begin none does and the others hear why") {
  const auto errors = ranks::run(3, [&](const ranks::ThreadRank& rank) {
    fm::all_or_none(rank, c10::kCPU, [] {});  // all can
    fm::all_or_none(rank, c10::kCPU, [&] {
      if (rank.rank() > 0) throw fm::DataError("no data on " + std::to_string(rank.rank()));
    });
  });
  require_error<fm::CommunicationError>([&] { std::rethrow_exception(errors[0]); },
                                        "rank 1 cannot begin: no data on 1");
  require_error<fm::DataError>([&] { std::rethrow_exception(errors[1]); }, "no data on 1");
  require_error<fm::DataError>([&] { std::rethrow_exception(errors[2]); }, "no data on 2");
  require_error<fm::DataError>(
      [] { fm::all_or_none(fm::SingleProcess{}, c10::kCPU, [] { throw fm::DataError("x"); }); },
      "x");
}

TEST_CASE("agree: ranks that have frozen other parameters do not begin together") {
  const auto begin = [](std::int64_t frozen_on) {
    return ranks::run(2, [&](const ranks::ThreadRank& rank) {
      torch::nn::Linear net(2, 2);
      net->bias.set_requires_grad(rank.rank() != frozen_on && frozen_on < 2);
      fm::begin_together(rank, *net, nullptr, {});
    });
  };
  for (const auto& error : begin(2)) REQUIRE(!error);  // frozen on both
  for (const auto& error : begin(1)) {
    REQUIRE(error);
    require_error<fm::OptionError>([&] { std::rethrow_exception(error); },
                                   "the network of 1 of 2 ranks is not that of rank 0");
  }
}
