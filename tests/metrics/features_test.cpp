#include "flowmatch/metrics/features.hpp"

#include <limits>

#include "tests/support/test.hpp"

TEST_CASE("features: rows of real numbers pass and whatever else is named") {
  fm::check_features(on_device::zeros({3, 2}), "these");
  fm::check_features(on_device::zeros({3, 2}, torch::kByte), "these");
  require_error<fm::ShapeError>([] { fm::check_features(on_device::zeros({3}), "these"); },
                                "these have shape [3]; give real features [N, D]");
  require_error<fm::ShapeError>(
      [] {
        fm::check_features(on_device::zeros({3, 0}), "these");
      },
      "[3, 0]");
  require_error<fm::ShapeError>([] { fm::check_features({}, "these"); }, "undefined");
  require_error<fm::ShapeError>(
      [] {
        fm::check_features(on_device::zeros({3, 2}, torch::kComplexFloat), "these");
      },
      "real features");
  require_error<fm::DataError>(
      [] {
        fm::check_features(on_device::zeros({1, 2}), "these", 2);
      },
      "these are 1 samples; this needs at least 2");
  require_error<fm::ShapeError>(
      [] {
        fm::check_features(on_device::zeros({3, 2}), "these", on_device::zeros({3, 4}), "those");
      },
      "these have dimension 2 and those 4");
}

TEST_CASE("features: a block is float64 without a gradient and ends with the rows") {
  const at::Tensor x = on_device::arange(10, torch::kFloat).view({5, 2}).requires_grad_();
  const at::Tensor block = fm::feature_block(x, 3, 4, test_device());
  REQUIRE_FALSE(block.requires_grad());
  REQUIRE(close(block, doubles({6, 7, 8, 9}).view({2, 2})));
}

TEST_CASE("features: a block with NaN or infinity is refused and its rows named") {
  at::Tensor x = on_device::zeros({5, 2}, torch::kDouble);
  // Products of the last overflow.
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), -1e60}) {
    x[3][1] = bad;
    fm::feature_block(x, 0, 3, test_device());
    require_error<fm::DataError>([&] { fm::feature_block(x, 3, 4, test_device()); },
                                 "between rows 3 and 5");
  }
}
