#include "flowmatch/loss/weighted.hpp"

#include <cmath>

#include "flowmatch/loss/objective.hpp"
#include "tests/support/test.hpp"

TEST_CASE("weighted: the loss of each sample counts by its time") {
  const auto model = [](const at::Tensor& x, const at::Tensor&) { return x * 0; };
  const fm::Noised<> noised{on_device::zeros({2, 2}, torch::kDouble), doubles({0.25, 0.5}),
                            doubles({1, 3, 2, 0}).view({2, 2})};
  const auto by_time = [](const at::Tensor& t) { return 4 * t; };
  // Mean squares 5 and 2, weights 1 and 2.
  CHECK(fm::WeightedLoss(by_time)(model, noised).item<double>() == Approx((5 + 2 * 2) / 2.0));
  const auto one = [](const at::Tensor& t) { return at::ones_like(t); };
  CHECK(close(fm::WeightedLoss(one)(model, noised), fm::PredictionLoss<>{}(model, noised)));
  static_assert(fm::Objective<decltype(fm::WeightedLoss(one)), decltype(model)>);
  const auto column = [](const at::Tensor& t) { return t.unsqueeze(1); };
  const fm::WeightedLoss uneven(column);
  require_error<fm::ShapeError>([&] { uneven(model, noised); }, "the weights");
}

TEST_CASE("weighted: the weights are those of the papers") {
  const at::Tensor t = doubles({0, 0.3, 0.5, 0.9, 1});
  const at::Tensor sigma = 1 - t;
  CHECK(close(fm::CosmapWeight{}(t), 2 / (M_PI * (1 - 2 * sigma + 2 * sigma * sigma))));
  CHECK(close(fm::InverseNoiseWeight()(t.slice(0, 0, 4)), sigma.slice(0, 0, 4).pow(-2)));
  CHECK(fm::InverseNoiseWeight(50)(t)[4].item<double>() == 50);
  const at::Tensor snr = (t / sigma).square();
  const at::Tensor of_x_1 = snr.clamp_max(5) * sigma.square();
  CHECK(close(fm::MinSnrWeight()(t).slice(0, 0, 4), of_x_1.slice(0, 0, 4)));
  CHECK(fm::MinSnrWeight()(t)[4].item<double>() == 0);
  require_error<fm::OptionError>([] { fm::MinSnrWeight(0); }, "above 0");
  require_error<fm::OptionError>([] { fm::InverseNoiseWeight(-1); }, "above 0");
}
