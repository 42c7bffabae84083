#include "flowmatch/metrics/frechet.hpp"

#include <cmath>
#include <limits>

#include "tests/support/test.hpp"

namespace {

at::Tensor origin() { return on_device::zeros({2}, torch::kDouble); }

// Features whose first column is exact: mean and variance as asked, spread over two samples.
at::Tensor two_samples(double mean, double variance) {
  const double half = std::sqrt(variance / 2);
  return doubles({mean - half, mean + half}).view({2, 1});
}

}  // namespace

TEST_CASE("frechet: Gaussians whose covariances commute have the distance of their axes") {
  const at::Tensor mean_a = doubles({1, 2, 3});
  const at::Tensor mean_b = doubles({1, 0, 4});
  const at::Tensor a = torch::diag(doubles({4, 9, 0.25}));
  const at::Tensor b = torch::diag(doubles({1, 16, 0}));
  // |m_a - m_b|² + sum of (sqrt a - sqrt b)².
  const double exact = (4 + 1) + (1 + 1 + 0.25);
  REQUIRE(fm::frechet_distance(mean_a, a, mean_b, b) == Approx(exact).epsilon(1e-13));
  REQUIRE(fm::frechet_distance(mean_b, b, mean_a, a) == Approx(exact).epsilon(1e-13));
  // It does not depend on the axes. Rounding makes an eigenvalue 0 some 1e-16, whose root counts.
  torch::manual_seed(1);
  const auto [q, r] = torch::linalg_qr(on_device::randn({3, 3}, torch::kDouble), "reduced");
  REQUIRE(fm::frechet_distance(torch::mv(q, mean_a), q.mm(a).mm(q.t()), torch::mv(q, mean_b),
                               q.mm(b).mm(q.t())) == Approx(exact).epsilon(1e-6));
}

TEST_CASE("frechet: covariances in the plane that do not commute") {
  const at::Tensor a = doubles({2, 0.5, 0.5, 1}).view({2, 2});
  const at::Tensor b = doubles({1, -0.7, -0.7, 3}).view({2, 2});
  // Tr of the root of a 2 x 2 matrix M is sqrt(Tr M + 2 sqrt(det M)).
  const at::Tensor product = a.mm(b);
  const double determinant = (2 * 1 - 0.25) * (1 * 3 - 0.49);
  const double root = std::sqrt(product.trace().item<double>() + 2 * std::sqrt(determinant));
  REQUIRE(fm::frechet_distance(origin(), a, origin(), b) ==
          Approx(3 + 4 - 2 * root).epsilon(1e-13));
}

TEST_CASE("frechet: covariances of rank one") {
  const at::Tensor u = doubles({3, 4});
  const at::Tensor v = doubles({1, -2});
  // Tr (uu' vv')^½ is |u'v|.
  const double exact = 25 + 5 - 2 * 5;
  REQUIRE(fm::frechet_distance(origin(), torch::outer(u, u), origin(), torch::outer(v, v)) ==
          Approx(exact).epsilon(1e-6));
  const at::Tensor none = on_device::zeros({2, 2}, torch::kDouble);
  REQUIRE(fm::frechet_distance(origin(), none, u, none) == Approx(25));
}

TEST_CASE("frechet: fewer samples than dimensions") {
  torch::manual_seed(1);
  const at::Tensor x = on_device::randn({20, 64}, torch::kDouble);
  REQUIRE(fm::frechet_distance(x, x) == Approx(0).margin(1e-4));
  REQUIRE(fm::frechet_distance(x, x) >= 0);
  REQUIRE(fm::frechet_distance(x, x + 0.5) == Approx(64 * 0.25).margin(1e-4));
}

TEST_CASE("frechet: samples of Gaussians come near the closed form") {
  torch::manual_seed(2);
  const at::Tensor a = 1 + 2 * on_device::randn({20000, 4});
  const at::Tensor b = 3 + 0.5 * on_device::randn({20000, 4});
  REQUIRE(fm::frechet_distance(a, b) == Approx(4 * (4 + 1.5 * 1.5)).epsilon(0.02));
  // One dimension, exactly: |1 - 4|² + (3 - 2)².
  REQUIRE(fm::frechet_distance(two_samples(1, 9), two_samples(4, 4)) == Approx(10));
}

TEST_CASE("frechet: moments of batches are those of all samples at once") {
  torch::manual_seed(3);
  const at::Tensor x = on_device::randn({2500, 3}, torch::kDouble).cumsum(1) * 2 + 1;
  const at::Tensor mean = x.mean(0).cpu();  // as moments are
  const at::Tensor centred = x.cpu() - mean;
  const at::Tensor covariance = centred.t().mm(centred) / 2499;
  const fm::FeatureMoments at_once(x);
  fm::FeatureMoments streamed, rest;
  streamed.add(x.slice(0, 0, 1));
  streamed.add(x.slice(0, 1, 1));  // an empty batch
  streamed.add(x.slice(0, 1, 700));
  rest.add(x.slice(0, 700, 2500));
  streamed.merge(rest);
  streamed.merge(fm::FeatureMoments());
  for (const fm::FeatureMoments& moments : {at_once, streamed}) {
    CHECK(moments.count() == 2500);
    CHECK(moments.dimension() == 3);
    CHECK(close(moments.mean(), mean));
    CHECK(close(moments.covariance(), covariance));
  }
  // What was merged from is as it was, though it shares tensors.
  CHECK(rest.count() == 1800);
  CHECK(close(rest.mean(), x.slice(0, 700, 2500).mean(0).cpu()));
  CHECK(close(fm::FeatureMoments(x.to(torch::kFloat)).covariance(), covariance, 1e-5, 1e-5));
}

TEST_CASE("frechet: a mean far from 0 does not swallow the variance") {
  fm::FeatureMoments moments;
  for (int i = 0; i < 100; ++i) moments.add(1e8 + doubles({-1, 1}).view({2, 1}));
  REQUIRE(moments.covariance().item<double>() == Approx(200.0 / 199).epsilon(1e-6));
}

TEST_CASE("frechet: too few samples and features that do not fit are refused") {
  fm::FeatureMoments moments;
  require_error<fm::DataError>([&] { moments.mean(); }, "moments of 0 samples; add at least 1");
  moments.add(on_device::zeros({1, 3}));
  require_error<fm::DataError>([&] { moments.covariance(); }, "moments of 1 samples");
  require_error<fm::DataError>(
      [] {
        fm::frechet_distance(on_device::zeros({1, 3}), on_device::zeros({9, 3}));
      },
      "add at least 2");
  require_error<fm::ShapeError>(
      [&] {
        moments.add(on_device::zeros({2, 4}));
      },
      "dimension 4 for moments of dimension 3");
  require_error<fm::ShapeError>(
      [&] {
        moments.add(on_device::zeros({2, 1, 28, 28}));
      },
      "flatten images");
  at::Tensor spoiled = on_device::zeros({2, 3});
  spoiled[1][1] = std::numeric_limits<float>::quiet_NaN();
  require_error<fm::DataError>([&] { moments.add(spoiled); }, "NaN or infinity");
  CHECK(moments.count() == 1);
  require_error<fm::ShapeError>(
      [] { fm::frechet_distance(origin(), on_device::eye(3), origin(), on_device::eye(2)); },
      "the first covariance has shape [3, 3]");
  require_error<fm::ShapeError>(
      [] { fm::frechet_distance(origin(), on_device::ones({2}), origin(), on_device::eye(2)); },
      "the first covariance has shape [2]");
  require_error<fm::ShapeError>(
      [] { fm::frechet_distance(origin(), on_device::eye(2), at::Tensor(), on_device::eye(2)); },
      "the second mean has shape undefined");
  const at::Tensor triangle = doubles({1, 0, 0.9, 1}).view({2, 2});
  const at::Tensor whole = doubles({1, 0.9, 0.9, 1}).view({2, 2});
  require_error<fm::DataError>(
      [&] { fm::frechet_distance(origin(), triangle.t(), origin(), whole); },
      "the first covariance is not symmetric");
  require_error<fm::DataError>([&] { fm::frechet_distance(origin(), whole, origin(), triangle); },
                               "the second covariance is not symmetric");
  const at::Tensor rounded = doubles({1, 0.9 + 1e-6, 0.9, 1}).view({2, 2});
  CHECK(fm::frechet_distance(origin(), rounded, origin(), whole) == Approx(0).margin(1e-6));
  require_error<fm::DataError>(
      [] {
        fm::frechet_distance(origin(), on_device::eye(2), origin(),
                             on_device::full({2, 2}, std::numeric_limits<double>::infinity()));
      },
      "the second covariance holds NaN");
}
