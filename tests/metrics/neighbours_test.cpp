#include "flowmatch/metrics/neighbours.hpp"

#include <cmath>
#include <limits>

#include "tests/support/test.hpp"

namespace {

at::Tensor column(std::vector<double> values) { return doubles(std::move(values)).unsqueeze(1); }

// All distances at once, without products.
at::Tensor distances(const at::Tensor& a, const at::Tensor& b) { return torch::cdist(a, b, 2, 2); }

at::Tensor radii(const at::Tensor& x, std::int64_t k) {
  return std::get<0>(distances(x, x).sort(1)).select(1, k);  // the point itself comes first
}

double share(const at::Tensor& what) { return what.to(torch::kDouble).mean().item<double>(); }

}  // namespace

TEST_CASE("neighbours: the nearest point and its distance") {
  torch::manual_seed(1);
  const at::Tensor query = on_device::randn({1100, 5}, torch::kDouble);
  const at::Tensor points = on_device::randn({2500, 5}, torch::kDouble);
  const fm::Nearest found = fm::nearest(query, points);
  const auto [distance, index] = distances(query, points).min(1);
  CHECK(close(found.distance, distance, 1e-9, 1e-9));
  CHECK(at::equal(found.index, index));
}

TEST_CASE("neighbours: a copy among pixels lies at distance 0 exactly") {
  torch::manual_seed(2);
  const at::Tensor points = on_device::randint(0, 256, {1500, 784}).to(torch::kByte);
  const at::Tensor query = points.slice(0, 1200, 1203);
  const fm::Nearest found = fm::nearest(query, points);
  CHECK(found.distance.eq(0).all().item<bool>());
  CHECK(at::equal(found.index, on_device::arange(1200, 1203)));
}

TEST_CASE("neighbours: precision and recall on a line") {
  // k = 1: the real balls are of radius 1, 1 and 3 about 0, 1 and 4; the generated ones of radius
  // 1.5, 1.5 and 94.5 about 4, 5.5 and 100.
  const at::Tensor real = column({0, 1, 4});
  const at::Tensor fake = column({4, 5.5, 100});
  const fm::PrecisionRecall found = fm::precision_recall(real, fake, 1);
  CHECK(found.precision == Approx(2.0 / 3));
  CHECK(found.recall == Approx(1.0 / 3));
  // A ball holds its rim: 7 = 4 + 3.
  CHECK(fm::precision_recall(real, column({7, 8}), 1).precision == 0.5);
}

TEST_CASE("neighbours: density and coverage on a line") {
  // k = 1: balls of radius 1 about 0 and 1, of radius 3 about 4. 0.5 lies in two of them, 2 in two
  // (on a rim each), -50 in none.
  const at::Tensor real = column({0, 1, 4});
  const fm::DensityCoverage found = fm::density_coverage(real, column({0.5, 2, -50, -51}), 1);
  CHECK(found.density == Approx(4.0 / 4));
  CHECK(found.coverage == Approx(1));
  CHECK(fm::density_coverage(real, column({6, 6, 6}), 1).density == Approx(1));
  CHECK(fm::density_coverage(real, column({6, 6, 6}), 1).coverage == Approx(1.0 / 3));
}

TEST_CASE("neighbours: sets larger than a block agree with all distances at once") {
  torch::manual_seed(3);
  const at::Tensor real = on_device::randn({1400, 3}, torch::kDouble);
  const at::Tensor fake = on_device::randn({1100, 3}, torch::kDouble) * 1.3 + 0.2;
  const at::Tensor d = distances(fake, real);
  const fm::PrecisionRecall pr = fm::precision_recall(real, fake, 3);
  CHECK(pr.precision == Approx(share((d <= radii(real, 3)).any(1))));
  CHECK(pr.recall == Approx(share((d <= radii(fake, 3).unsqueeze(1)).any(0))));
  const at::Tensor held = (d <= radii(real, 5)).sum(0);
  const fm::DensityCoverage dc = fm::density_coverage(real, fake, 5);
  CHECK(dc.density == Approx(held.sum().item<double>() / (5 * 1100)));
  CHECK(dc.coverage == Approx(share(held > 0)));
}

TEST_CASE("neighbours: two draws of one distribution") {
  torch::manual_seed(4);
  const at::Tensor a = on_device::randn({2000, 2}, torch::kDouble);
  const at::Tensor b = on_device::randn({2000, 2}, torch::kDouble);
  // Naeem et al. 2020, section 3.3: density 1, coverage 1 - 2^-k.
  const fm::DensityCoverage found = fm::density_coverage(a, b, 3);
  CHECK(found.density == Approx(1).epsilon(0.05));
  CHECK(found.coverage == Approx(1 - 1.0 / 8).epsilon(0.03));
  // Far away everything is 0.
  CHECK(fm::density_coverage(a, b + 1000, 3).density == 0);
  CHECK(fm::density_coverage(a, b + 1000, 3).coverage == 0);
  CHECK(fm::precision_recall(a, b + 1000).precision == 0);
  CHECK(fm::precision_recall(a, b + 1000).recall == 0);
}

TEST_CASE("neighbours: too few points and features that do not fit are refused") {
  const at::Tensor good = on_device::randn({10, 2});
  require_error<fm::OptionError>([&] { fm::precision_recall(good, good, 0); }, "k = 0");
  require_error<fm::OptionError>([&] { fm::density_coverage(good, good, -1); }, "k = -1");
  require_error<fm::DataError>(
      [&] {
        fm::precision_recall(good, on_device::randn({3, 2}), 3);
      },
      "the generated features are 3 samples; this needs at least 4");
  require_error<fm::DataError>(
      [&] {
        fm::density_coverage(on_device::randn({5, 2}), good, 5);
      },
      "the real features are 5 samples");
  require_error<fm::ShapeError>(
      [&] {
        fm::nearest(good, on_device::randn({3, 4}));
      },
      "the points 4");
  require_error<fm::DataError>([&] { fm::nearest(good, on_device::randn({0, 2})); }, "the points");
  const auto each = [&](const at::Tensor& fake, auto error, const char* message) {
    require_error<decltype(error)>([&] { fm::precision_recall(good, fake, 3); }, message);
    require_error<decltype(error)>([&] { fm::density_coverage(good, fake, 3); }, message);
  };
  each(on_device::randn({10, 4}), fm::ShapeError(""), "the generated features 4");
  each(on_device::randn({0, 2}), fm::DataError(""), "the generated features are 0 samples");
  at::Tensor spoiled = good.clone();
  spoiled[9][0] = std::numeric_limits<double>::quiet_NaN();
  require_error<fm::DataError>([&] { fm::precision_recall(good, spoiled); }, "NaN or infinity");
  require_error<fm::DataError>([&] { fm::nearest(spoiled, good); }, "NaN or infinity");
}
