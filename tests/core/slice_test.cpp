#include "flowmatch/core/slice.hpp"

#include "tests/support/test.hpp"

TEST_CASE("slice: all that an example holds is cut alike") {
  const at::Tensor x = on_device::arange(10, torch::kDouble).view({5, 2});
  const fm::Noised<at::Tensor> e{x, x.select(1, 0) / 10, -x, on_device::arange(5)};
  const fm::NoisedSample<fm::NoisyPathSample, at::Tensor> whole{
      e, {{e.x_t, -e.x_t, e.t, e.x_t + 1, e.x_t + 2}, e.x_t + 3, e.t + 4}};
  const auto part = fm::slice(whole, 2, 5);
  CHECK(torch::equal(part.x_t, e.x_t.slice(0, 2)));
  CHECK(torch::equal(part.condition, on_device::tensor({2, 3, 4})));
  CHECK(torch::equal(part.sample.x_0, e.x_t.slice(0, 2)));
  CHECK(torch::equal(part.sample.x_1, -e.x_t.slice(0, 2)));
  CHECK(torch::equal(part.sample.t, e.t.slice(0, 2)));
  CHECK(torch::equal(part.sample.x_t, e.x_t.slice(0, 2) + 1));
  CHECK(torch::equal(part.sample.dx_t, e.x_t.slice(0, 2) + 2));
  CHECK(torch::equal(part.sample.epsilon, e.x_t.slice(0, 2) + 3));
  CHECK(torch::equal(part.sample.sigma_t, e.t.slice(0, 2) + 4));
}
