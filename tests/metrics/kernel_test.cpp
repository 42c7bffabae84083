#include "flowmatch/metrics/kernel.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "flowmatch/core/random.hpp"
#include "tests/support/test.hpp"

namespace {

double kernel(const at::Tensor& a, const at::Tensor& b) {
  return std::pow(a.dot(b).item<double>() / static_cast<double>(a.numel()) + 1, 3);
}

}  // namespace

TEST_CASE("kernel: the estimate is the formula pair by pair") {
  torch::manual_seed(1);
  const at::Tensor x = on_device::randn({5, 3}, torch::kDouble);
  const at::Tensor y = on_device::randn({4, 3}, torch::kDouble) + 1;
  double xx = 0, yy = 0, xy = 0;
  for (std::int64_t i = 0; i < 5; ++i)
    for (std::int64_t j = 0; j < 5; ++j) xx += i == j ? 0 : kernel(x[i], x[j]) / (5 * 4);
  for (std::int64_t i = 0; i < 4; ++i)
    for (std::int64_t j = 0; j < 4; ++j) yy += i == j ? 0 : kernel(y[i], y[j]) / (4 * 3);
  for (std::int64_t i = 0; i < 5; ++i)
    for (std::int64_t j = 0; j < 4; ++j) xy += kernel(x[i], y[j]) / (5 * 4);
  REQUIRE(fm::kernel_distance(x, y).value == Approx(xx + yy - 2 * xy).epsilon(1e-12));
  REQUIRE(fm::kernel_distance(y, x).value == Approx(xx + yy - 2 * xy).epsilon(1e-12));
}

TEST_CASE("kernel: sets larger than a block") {
  torch::manual_seed(2);
  const at::Tensor x = on_device::randn({2100, 2}, torch::kDouble);
  const at::Tensor y = on_device::randn({1100, 2}, torch::kDouble) * 1.5;
  const auto k = [](const at::Tensor& a, const at::Tensor& b) {
    return (a.mm(b.t()) / 2 + 1).pow(3);
  };
  const at::Tensor kxx = k(x, x), kyy = k(y, y);
  const at::Tensor value = (kxx.sum() - kxx.trace()) / (2100.0 * 2099) +
                           (kyy.sum() - kyy.trace()) / (1100.0 * 1099) - 2 * k(x, y).mean();
  REQUIRE(fm::kernel_distance(x, y).value == Approx(value.item<double>()).epsilon(1e-10));
}

TEST_CASE("kernel: unbiased and its error is what repetition shows") {
  struct Case {
    double shift, least, most;  // of reported / true error
  };
  // Where both are alike the first-order error is too large by up to the root of 2.
  for (const Case& c : {Case{0.5, 0.85, 1.2}, Case{0, 1.0, 1.7}}) {
    std::vector<double> values;
    double errors = 0;
    constexpr int draws = 400;
    for (int draw = 0; draw < draws; ++draw) {
      fm::Rng rng(static_cast<std::uint64_t>(draw));  // the bounds are for the CPU's numbers
      const at::Tensor x = on_device::put(rng.normal({100, 2}, at::kDouble));
      const at::Tensor y = on_device::put(rng.normal({60, 2}, at::kDouble) + c.shift);
      const fm::KernelDistance d = fm::kernel_distance(x, y);
      values.push_back(d.value);
      errors += d.standard_error / draws;
    }
    const at::Tensor all = doubles(values);
    const double spread = all.std().item<double>();
    INFO("shift " << c.shift << ": mean " << all.mean().item<double>() << ", spread " << spread
                  << ", reported " << errors);
    CHECK(errors / spread > c.least);
    CHECK(errors / spread < c.most);
    // E k(x, y) for N(a, I), N(b, I), u = x'y/2: moments of u from those of the parts.
    const auto expected = [](double a, double b) {
      // u = (x1 y1 + x2 y2) / 2 with independent parts p of mean ab and moments below.
      const double m1 = a * b, m2 = (1 + a * a) * (1 + b * b);
      const double m3 = (3 * a + a * a * a) * (3 * b + b * b * b);
      const double u1 = m1, u2 = (m2 + m1 * m1) / 2, u3 = (2 * m3 + 6 * m2 * m1) / 8;
      return 1 + 3 * u1 + 3 * u2 + u3;
    };
    const double exact = expected(0, 0) + expected(c.shift, c.shift) - 2 * expected(0, c.shift);
    CHECK(std::abs(all.mean().item<double>() - exact) < 4 * spread / std::sqrt(draws));
  }
}

TEST_CASE("kernel: half precision and integers serve as well") {
  const at::Tensor x = on_device::arange(12, torch::kByte).view({6, 2});
  const at::Tensor y = x + 3;
  const double value = fm::kernel_distance(x.to(torch::kDouble), y.to(torch::kDouble)).value;
  REQUIRE(fm::kernel_distance(x, y).value == Approx(value));
  REQUIRE(fm::kernel_distance(x.to(torch::kHalf), y.to(torch::kBFloat16)).value == Approx(value));
}

TEST_CASE("kernel: too few samples and features that do not fit are refused") {
  const at::Tensor good = on_device::randn({3, 2});
  require_error<fm::DataError>(
      [&] {
        fm::kernel_distance(good, on_device::randn({1, 2}));
      },
      "at least 2");
  require_error<fm::ShapeError>(
      [&] {
        fm::kernel_distance(good, on_device::randn({3, 4}));
      },
      "the second features 4");
  require_error<fm::DataError>(
      [&] {
        fm::kernel_distance(good, on_device::full({3, 2}, std::numeric_limits<double>::infinity()));
      },
      "NaN or infinity");
}
