#include "flowmatch/core/tensors_in.hpp"

#include "tests/support/test.hpp"

namespace {

std::vector<double> numbers_in(auto whole) {
  std::vector<double> found;
  fm::for_each_tensor(whole, [&](at::Tensor& t) { found.push_back(t.item<double>()); });
  return found;
}
at::Tensor number(double value) { return torch::tensor(value); }

}  // namespace

TEST_CASE("tensors_in: every tensor of a condition, sample or example, in order") {
  CHECK(numbers_in(fm::NoCondition{}).empty());
  CHECK(numbers_in(at::Tensor{}).empty());
  CHECK(numbers_in(number(1)) == std::vector<double>{1});
  const auto condition = std::make_tuple(number(8), std::make_tuple(fm::NoCondition{}, number(9)));
  CHECK(numbers_in(condition) == std::vector<double>{8, 9});

  const fm::PathSample sample{number(1), number(2), number(3), number(4), number(5)};
  CHECK(numbers_in(sample) == std::vector<double>{1, 2, 3, 4, 5});
  const fm::NoisyPathSample noisy{sample, number(6), number(7)};
  CHECK(numbers_in(noisy) == std::vector<double>{1, 2, 3, 4, 5, 6, 7});

  using Condition = std::remove_const_t<decltype(condition)>;
  const fm::Noised<Condition> noised{number(-1), number(-2), number(-3), condition};
  CHECK(numbers_in(noised) == std::vector<double>{-1, -2, -3, 8, 9});
  CHECK(numbers_in(fm::TwoTimeNoised<Condition>{noised, number(-4)}) ==
        std::vector<double>{-1, -2, -3, 8, 9, -4});
  CHECK(numbers_in(fm::TwoTimeNoised<Condition>{noised, number(-4), number(-5)}) ==
        std::vector<double>{-1, -2, -3, 8, 9, -4, -5});
  CHECK(numbers_in(fm::NoisedSample<fm::NoisyPathSample, Condition>{noised, noisy}) ==
        std::vector<double>{-1, -2, -3, 8, 9, 1, 2, 3, 4, 5, 6, 7});
}

TEST_CASE("tensors_in: tensors are given to be changed") {
  auto pair = std::make_tuple(number(1), number(2));
  fm::for_each_tensor(pair, [](at::Tensor& t) { t = t + 10; });
  CHECK(numbers_in(pair) == std::vector<double>{11, 12});
  STATIC_REQUIRE(fm::MadeOfTensors<decltype(pair)>);
  STATIC_REQUIRE_FALSE(fm::MadeOfTensors<std::string>);
}
