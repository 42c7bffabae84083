#include "flowmatch/core/types.hpp"

#include "tests/support/test.hpp"

TEST_CASE("types: the condition is NoCondition unless a type is named") {
  static_assert(std::is_same_v<fm::Batch<>::condition_type, fm::NoCondition>);
  static_assert(std::is_same_v<fm::Coupled<>::condition_type, fm::NoCondition>);
  static_assert(std::is_same_v<fm::Noised<>::condition_type, fm::NoCondition>);
  static_assert(std::is_same_v<fm::Batch<at::Tensor>::condition_type, at::Tensor>);
  static_assert(std::is_empty_v<fm::NoCondition>);
}

TEST_CASE("types: a batch of x_1 alone has no x_0") {
  const at::Tensor x = on_device::ones({2, 3});
  const fm::Batch<> batch{x};
  CHECK(batch.x_1.is_same(x));
  CHECK_FALSE(batch.x_0.defined());
  const fm::Batch<at::Tensor> labelled{x, on_device::tensor({4, 5})};
  CHECK(labelled.condition[1].item<int>() == 5);
  CHECK_FALSE(labelled.x_0.defined());
}
