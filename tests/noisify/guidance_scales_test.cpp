#include "flowmatch/noisify/guidance_scales.hpp"

#include <limits>
#include <tuple>

#include "flowmatch/noisify/condition_dropout.hpp"
#include "flowmatch/noisify/two_times.hpp"
#include "flowmatch/path/affine.hpp"
#include "tests/support/test.hpp"

TEST_CASE("guidance_scales: scales are drawn by a power, all else is the example's") {
  using Pair = std::tuple<at::Tensor, at::Tensor>;
  const std::int64_t n = 20000;
  const fm::Batch<Pair> batch{on_device::randn({n, 1}),
                              {on_device::arange(n), on_device::zeros({n})}};
  const fm::TwoTimeNoisifier two(fm::LinearPath{});
  for (const double power : {0.0, 1.0, 2.0}) {
    fm::Rng a(1, test_device()), b(1, test_device());
    const auto noised = fm::GuidanceScales(two, 4, power)(batch, a);
    CHECK(at::equal(noised.x_t, two(batch, b).x_t));
    CHECK(at::equal(std::get<0>(noised.condition), std::get<0>(batch.condition)));
    const at::Tensor scale = std::get<1>(noised.condition).to(at::kDouble);
    CHECK(scale.min().item<double>() >= 1);
    CHECK(scale.max().item<double>() <= 4 + 1e-5);
    // The means of s^-power on [1, 4] are 5/2, 3 / ln 4 and 4/3 ln 4.
    const double mean = power == 0 ? 2.5 : power == 1 ? 3 / std::log(4.0) : std::log(4.0) * 4 / 3;
    CHECK(scale.mean().item<double>() == Approx(mean).epsilon(0.01));
  }
  const fm::GuidanceScales one(two, 1);
  fm::Rng rng(1, test_device());
  CHECK(std::get<1>(one(batch, rng).condition).eq(1).all().item<bool>());
}

TEST_CASE("guidance_scales: it goes with dropped conditions, and powers near 1 are no trouble") {
  using Pair = std::tuple<at::Tensor, at::Tensor>;
  const Pair null{on_device::tensor({10}), on_device::ones({1})};
  const fm::GuidanceScales noisify(
      fm::ConditionDropout(fm::VelocityNoisifier(fm::LinearPath{}), null, 0.5), 3, 1 + 1e-9);
  const fm::Batch<Pair> batch{on_device::randn({100, 2}),
                              {on_device::zeros({100}, at::kLong), on_device::ones({100})}};
  fm::Rng rng(2, test_device());
  const auto noised = noisify(batch, rng);
  CHECK(std::get<0>(noised.condition).eq(10).any().item<bool>());
  CHECK(std::get<1>(noised.condition).gt(1).all().item<bool>());
  const at::Tensor u = doubles({0.0, 0.5, 1.0});
  CHECK(close(noisify.quantile(u), doubles({1.0, std::sqrt(3.0), 3.0}), 1e-8, 1e-8));
}

TEST_CASE("guidance_scales: what cannot be is refused") {
  const fm::VelocityNoisifier noisify(fm::LinearPath{});
  const double nan = std::numeric_limits<double>::quiet_NaN();
  require_error<fm::OptionError>([&] { fm::GuidanceScales(noisify, 0.5); }, "at least 1");
  require_error<fm::OptionError>([&] { fm::GuidanceScales(noisify, nan); }, "at least 1");
  require_error<fm::OptionError>([&] { fm::GuidanceScales(noisify, 2, nan); }, "finite power");
}
