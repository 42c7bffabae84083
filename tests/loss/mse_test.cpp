#include "flowmatch/loss/mse.hpp"

#include "tests/support/test.hpp"

TEST_CASE("mse: it is the mean of the squared differences over all elements") {
  const at::Tensor prediction = doubles({1, 2, 3, 4}).view({2, 2});
  const at::Tensor target = doubles({0, 2, 5, 1}).view({2, 2});
  const at::Tensor loss = fm::Mse{}(prediction, target);
  CHECK(loss.dim() == 0);
  CHECK(loss.item<double>() == Approx((1 + 0 + 4 + 9) / 4.0));
}

TEST_CASE("mse: its gradient is twice the difference over the number of elements") {
  const at::Tensor prediction = doubles({1, 2, 4}).requires_grad_();
  fm::Mse{}(prediction, doubles({0, 2, 1})).backward();
  CHECK(close(prediction.grad(), doubles({2.0 / 3, 0, 2})));
}

TEST_CASE("mse: shapes that would be broadcast are a ShapeError") {
  require_error<fm::ShapeError>(
      [] {
        fm::Mse{}(on_device::zeros({4, 1}), on_device::zeros({4}));
      },
      "the model's prediction has shape [4, 1] and the target has");
  require_error<fm::ShapeError>(
      [] {
        fm::Mse{}(on_device::zeros({1, 2}), on_device::zeros({4, 2}));
      },
      "the target has shape [4, 2]");
  require_error<fm::ShapeError>([] { fm::Mse{}(at::Tensor(), on_device::zeros({4})); },
                                "undefined");
}

TEST_CASE("mse: of each sample it is the mean over that one's elements") {
  const at::Tensor prediction = doubles({1, 2, 3, 4}).view({2, 1, 2});
  const at::Tensor target = doubles({0, 2, 5, 1}).view({2, 1, 2});
  CHECK(close(fm::Mse{}.per_sample(prediction, target), doubles({0.5, 6.5})));
  CHECK(close(fm::Mse{}.per_sample(prediction.flatten(), target.flatten()), doubles({1, 0, 4, 9})));
}
