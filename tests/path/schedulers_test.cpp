#include "flowmatch/path/schedulers.hpp"

#include <limits>

#include "tests/path/all_schedulers.hpp"

namespace {

at::Tensor inner_times() { return on_device::linspace(0.02, 0.98, 49, torch::kDouble); }

}  // namespace

TEST_CASE("schedulers: derivatives agree with central differences") {
  const double h = 1e-5;
  const at::Tensor t = inner_times();
  for_each_scheduler([&](const auto& scheduler) {
    const fm::Coefficients c = scheduler(t);
    const fm::Coefficients after = scheduler(t + h);
    const fm::Coefficients before = scheduler(t - h);
    CHECK(close(c.d_alpha_t, (after.alpha_t - before.alpha_t) / (2 * h), 1e-6, 1e-8));
    CHECK(close(c.d_sigma_t, (after.sigma_t - before.sigma_t) / (2 * h), 1e-6, 1e-8));
  });
}

TEST_CASE("schedulers: data goes from 0 to 1 and noise from 1 to 0") {
  const at::Tensor ends = doubles({0, 1});
  for_each_scheduler([&](const auto& scheduler) {
    using S = std::decay_t<decltype(scheduler)>;
    const fm::Coefficients c = scheduler(ends);
    // A diffusion keeps a little data at its noisy end.
    const double rest = std::is_same_v<S, fm::VPScheduler> ? 0.14 : 0.0;
    CHECK(c.alpha_t[0].item<double>() == Approx(0).margin(rest));
    CHECK(c.sigma_t[0].item<double>() == Approx(1).margin(rest * rest));
    CHECK(c.alpha_t[1].item<double>() == 1);
    CHECK(c.sigma_t[1].item<double>() == 0);
    const fm::Coefficients inner = scheduler(inner_times());
    CHECK((inner.alpha_t.diff() > 0).all().item<bool>());
    CHECK((inner.sigma_t.diff() < 0).all().item<bool>());
  });
}

TEST_CASE("schedulers: values of the formulas at chosen times") {
  const at::Tensor t = doubles({0.3});
  const auto at = [&](const auto& scheduler) {
    const fm::Coefficients c = scheduler(t);
    return std::pair(c.alpha_t.template item<double>(), c.sigma_t.template item<double>());
  };
  CHECK(at(fm::CondOTScheduler{}).first == Approx(0.3));
  CHECK(at(fm::CondOTScheduler{}).second == Approx(0.7));
  CHECK(at(fm::PolynomialScheduler(2)).first == Approx(0.09));
  CHECK(at(fm::PolynomialScheduler(2)).second == Approx(0.91));
  const double big_t = 0.5 * 0.49 * 19.9 + 0.7 * 0.1;
  CHECK(at(fm::VPScheduler()).first == Approx(std::exp(-big_t / 2)));
  CHECK(at(fm::VPScheduler()).second == Approx(std::sqrt(1 - std::exp(-big_t))));
  CHECK(at(fm::LinearVPScheduler{}).second == Approx(std::sqrt(0.91)));
  CHECK(at(fm::CosineScheduler{}).first == Approx(std::sin(0.15 * std::numbers::pi)));
  CHECK(at(fm::CosineScheduler{}).second == Approx(std::cos(0.15 * std::numbers::pi)));
}

TEST_CASE("schedulers: the variance preserving ones keep the variance") {
  const at::Tensor t = inner_times();
  const auto variance = [&](const auto& scheduler) {
    const fm::Coefficients c = scheduler(t);
    return c.alpha_t.square() + c.sigma_t.square();
  };
  CHECK(close(variance(fm::VPScheduler()), torch::ones_like(t)));
  CHECK(close(variance(fm::LinearVPScheduler{}), torch::ones_like(t)));
  CHECK(close(variance(fm::CosineScheduler{}), torch::ones_like(t)));
}

TEST_CASE("schedulers: the time of a signal to noise ratio is found again") {
  const at::Tensor t = inner_times();
  for_each_scheduler([&](const auto& scheduler) {
    const fm::Coefficients c = scheduler(t);
    CHECK(close(scheduler.snr_inverse(c.alpha_t / c.sigma_t), t, 1e-9, 1e-9));
  });
}

TEST_CASE("schedulers: extreme signal to noise ratios give the ends") {
  for (const auto dtype : {torch::kFloat, torch::kDouble}) {
    const at::Tensor snr = on_device::tensor({0.0, 1e-30, 1e30}, dtype);
    for_each_scheduler([&](const auto& scheduler) {
      const at::Tensor t = scheduler.snr_inverse(snr);
      CHECK(t.scalar_type() == dtype);
      CHECK(at::allclose(t, on_device::tensor({0.0, 0.0, 1.0}, dtype), 0, 1e-6));
    });
  }
}

TEST_CASE("schedulers: everything is finite at both ends in either precision") {
  for (const auto dtype : {torch::kFloat, torch::kDouble}) {
    const double tiny = dtype == torch::kFloat ? 6e-8 : 1.2e-16;
    const at::Tensor t = on_device::tensor({0.0, 1e-30, tiny, 1 - tiny, 1.0}, dtype);
    for_each_scheduler([&](const auto& scheduler) {
      const fm::Coefficients c = scheduler(t);
      for (const at::Tensor& value : {c.alpha_t, c.sigma_t, c.d_alpha_t, c.d_sigma_t}) {
        CHECK(value.scalar_type() == dtype);
        CHECK(value.sizes() == t.sizes());
        CHECK(value.isfinite().all().template item<bool>());
      }
      CHECK((c.sigma_t >= 0).all().template item<bool>());
    });
  }
}

TEST_CASE("schedulers: times that are beyond an end by a rounding are that end") {
  // 0.3 - 3 * 0.1, and 0.01 added up a hundred times.
  const at::Tensor beyond = doubles({0.3 - 3 * 0.1, 1.0000000000000007});
  REQUIRE(beyond[0].item<double>() < 0);
  REQUIRE(beyond[1].item<double>() > 1);
  for_each_scheduler([&](const auto& scheduler) {
    const fm::Coefficients c = scheduler(beyond);
    const fm::Coefficients ends = scheduler(doubles({0, 1}));
    CHECK(close(c.alpha_t, ends.alpha_t, 1e-12, 1e-12));
    CHECK(close(c.sigma_t, ends.sigma_t, 1e-12, 1e-12));
    CHECK(close(c.d_alpha_t, ends.d_alpha_t, 1e-12, 1e-12));
    CHECK(close(c.d_sigma_t, ends.d_sigma_t, 1e-12, 1e-12));
  });
}

TEST_CASE("schedulers: VP that ends without noise has a finite d_sigma at the data") {
  for (const auto dtype : {torch::kFloat, torch::kDouble}) {
    const at::Tensor t = on_device::tensor({0.9999, 0.99999, 0.9999999, 1.0}, dtype);
    const at::Tensor slope = fm::VPScheduler(0, 20)(t).d_sigma_t;
    CHECK(at::allclose(slope, torch::full_like(t, -std::sqrt(10.0)), 1e-3));
  }
}

TEST_CASE("schedulers: options out of range are an OptionError that says so") {
  // Below 1 the velocity is infinite at t = 0.
  for (const double n : {0.0, -1.0, 0.5, std::numeric_limits<double>::quiet_NaN(),
                         std::numeric_limits<double>::infinity()}) {
    require_error<fm::OptionError>([&] { fm::PolynomialScheduler scheduler(n); },
                                   "power of at least 1");
  }
  require_error<fm::OptionError>([] { fm::VPScheduler scheduler(-0.1, 20); }, "beta_min");
  require_error<fm::OptionError>([] { fm::VPScheduler scheduler(2, 1); }, "beta_min");
  require_error<fm::OptionError>([] { fm::VPScheduler scheduler(0, 0); }, "beta_max above 0");
  require_error<fm::OptionError>(
      [] { fm::VPScheduler scheduler(0, std::numeric_limits<double>::infinity()); }, "beta_max");
  require_error<fm::OptionError>(
      [] { fm::VPScheduler scheduler(std::numeric_limits<double>::quiet_NaN(), 1); }, "beta_min");
}

TEST_CASE("schedulers: denominators stop at the square root of the machine epsilon") {
  CHECK(fm::denominator_floor(torch::kDouble) == Approx(1.490116e-8));
  CHECK(fm::denominator_floor(torch::kFloat) == Approx(3.452670e-4));
  CHECK(fm::denominator_floor(torch::kBFloat16) == fm::denominator_floor(torch::kFloat));
}

TEST_CASE("schedulers: the target path leaves its noise at the data") {
  const fm::TargetScheduler scheduler(0.1);
  const at::Tensor t = doubles({0, 0.25, 1});
  const fm::Coefficients c = scheduler(t);
  CHECK(close(c.alpha_t, t));
  CHECK(close(c.sigma_t, doubles({1, 0.775, 0.1})));
  CHECK(close(c.d_alpha_t, torch::ones_like(t)));
  CHECK(close(c.d_sigma_t, torch::full_like(t, -0.9)));
  CHECK(close(scheduler.snr_inverse(c.alpha_t / c.sigma_t), t));
  CHECK(close(fm::TargetScheduler(0)(t).sigma_t, fm::CondOTScheduler{}(t).sigma_t));
}
