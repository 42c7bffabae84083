#include "flowmatch/metrics/wasserstein.hpp"

#include <cmath>
#include <limits>

#include "tests/support/test.hpp"

TEST_CASE("wasserstein: of points in the plane that were moved and shuffled") {
  fm::Rng rng(1, test_device());
  const at::Tensor x = rng.normal({50, 2}, at::kDouble);
  const at::Tensor y = (x + doubles({3, 4})).index_select(0, rng.permutation(50));
  for (const int p : {1, 2}) CHECK(fm::wasserstein(x, y, p) == Approx(5).epsilon(1e-12));
  CHECK(fm::wasserstein(x, x) == 0);
}

TEST_CASE("wasserstein: of few points by hand") {
  const at::Tensor x = doubles({0, 0, 10, 0}).view({2, 2});
  const at::Tensor y = doubles({10, 3, 0, 4}).view({2, 2});
  CHECK(fm::wasserstein(x, y, 1) == Approx(3.5));
  CHECK(fm::wasserstein(x, y, 2) == Approx(std::sqrt((9 + 16) / 2.0)));
  // The cheapest pairing for p = 1 need not be that for p = 2: one long way or many short ones.
  const at::Tensor a = doubles({0, 1, 2}).unsqueeze(1);
  const at::Tensor b = doubles({1, 2, 3.5}).unsqueeze(1);
  CHECK(fm::wasserstein(a, b, 1) == Approx(3.5 / 3));
  CHECK(fm::wasserstein(a, b, 2) == Approx(std::sqrt((1 + 1 + 2.25) / 3)));
}

TEST_CASE("wasserstein: on a line the sliced distance is the exact one") {
  fm::Rng rng(2, test_device());
  const at::Tensor x = rng.normal({1500, 1}, at::kDouble);
  const at::Tensor y = rng.uniform({1500, 1}, at::kDouble) * 3;
  const auto in_order = [](const at::Tensor& t) { return std::get<0>(t.sort(0)); };
  const at::Tensor gap = in_order(x) - in_order(y);
  CHECK(fm::sliced_wasserstein(x, y, rng, {1, 3}) ==
        Approx(gap.abs().mean().item<double>()).epsilon(1e-12));
  CHECK(fm::sliced_wasserstein(x, y, rng, {2, 3}) ==
        Approx(gap.square().mean().sqrt().item<double>()).epsilon(1e-12));
  const at::Tensor some_x = x.slice(0, 0, 100), some_y = y.slice(0, 0, 100);
  for (const int p : {1, 2}) {
    CHECK(fm::wasserstein(some_x, some_y, p) ==
          Approx(fm::sliced_wasserstein(some_x, some_y, rng, {p, 1})).epsilon(1e-12));
  }
}

TEST_CASE("wasserstein: sets of unlike size are compared by quantiles") {
  fm::Rng rng(3, test_device());
  const at::Tensor x = rng.normal({4, 1}, at::kDouble);
  const at::Tensor y = rng.normal({6, 1}, at::kDouble);
  // The same distributions with twelve points each.
  const at::Tensor x_12 = x.repeat({3, 1}), y_12 = y.repeat({2, 1});
  for (const int p : {1, 2}) {
    CHECK(fm::sliced_wasserstein(x, y, rng, {p, 1}) ==
          Approx(fm::wasserstein(x_12, y_12, p)).epsilon(1e-12));
  }
  CHECK(fm::sliced_wasserstein(x, x_12, rng) == Approx(0).margin(1e-12));
}

TEST_CASE(
    "wasserstein: the sliced distance of a shift is its length by the root of the dimension") {
  fm::Rng rng(4, test_device());
  const at::Tensor x = rng.normal({200, 3});
  const at::Tensor y = x + on_device::tensor({1.0F, 2.0F, 2.0F});
  fm::Rng directions(5, test_device());
  CHECK(fm::sliced_wasserstein(x, y, directions, {2, 4000}) ==
        Approx(3 / std::sqrt(3.0)).epsilon(0.02));
  // The mean of |cos| over the sphere in three dimensions is a half.
  CHECK(fm::sliced_wasserstein(x, y, directions, {1, 4000}) == Approx(1.5).epsilon(0.02));
  CHECK(fm::sliced_wasserstein(x, y, directions) < fm::wasserstein(x, y));
}

TEST_CASE("wasserstein: the same Rng gives the same directions") {
  fm::Rng rng(6, test_device());
  const at::Tensor x = rng.normal({100, 4}), y = rng.normal({70, 4});
  fm::Rng one(7, test_device()), two(7, test_device()), other(8, test_device());
  const double first = fm::sliced_wasserstein(x, y, one);
  CHECK(first == fm::sliced_wasserstein(x, y, two, {2, 256}));  // the options' defaults
  CHECK(first != fm::sliced_wasserstein(x, y, other));
}

TEST_CASE("wasserstein: bad options and points that do not fit are refused") {
  fm::Rng rng(9, test_device());
  const at::Tensor x = rng.normal({4, 2});
  require_error<fm::OptionError>([&] { fm::wasserstein(x, x, 3); }, "order 3; choose 1 or 2");
  require_error<fm::OptionError>([&] { fm::sliced_wasserstein(x, x, rng, {0}); }, "order 0");
  require_error<fm::OptionError>(
      [&] {
        fm::sliced_wasserstein(x, x, rng, {2, 0});
      },
      "0 projections");
  require_error<fm::ShapeError>(
      [&] {
        fm::wasserstein(x, rng.normal({5, 2}));
      },
      "take sliced_wasserstein");
  require_error<fm::ShapeError>(
      [&] {
        fm::wasserstein(x, rng.normal({4, 3}));
      },
      "the second points 3");
  require_error<fm::DataError>(
      [&] {
        fm::sliced_wasserstein(x, rng.normal({0, 2}), rng);
      },
      "the second points are 0 samples");
  const at::Tensor bad = on_device::full({4, 2}, std::numeric_limits<double>::infinity());
  require_error<fm::DataError>([&] { fm::wasserstein(x, bad); }, "NaN or infinity");
  require_error<fm::DataError>([&] { fm::sliced_wasserstein(bad, x, rng); }, "NaN or infinity");
}
