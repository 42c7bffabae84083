#include "flowmatch/noisify/time_densities.hpp"

#include <cmath>
#include <limits>

#include "tests/support/test.hpp"

namespace {

/// The share of times below each of `at`, from many draws.
template <class Time>
at::Tensor shares_below(const Time& time, const at::Tensor& at) {
  fm::Rng rng(3, test_device());
  const at::Tensor t = time(200000, torch::kDouble, rng);
  CHECK(t.min().item<double>() >= 0);
  CHECK(t.max().item<double>() <= 1);
  return t.unsqueeze(1).le(at).to(torch::kDouble).mean(0);
}

}  // namespace

TEST_CASE("time_densities: pi-0's times are 0.999 (1 - u) with u of Beta(1.5, 1)") {
  const at::Tensor at = doubles({0.1, 0.3, 0.5, 0.8});
  // P(t <= a) = P(u >= 1 - a / 0.999) = 1 - (1 - a / 0.999)^1.5.
  CHECK(close(shares_below(fm::PowerTime(), at), 1 - (1 - at / 0.999).pow(1.5), 0, 4e-3));
  CHECK(fm::PowerTime().quantile(doubles({1})).item<double>() == Approx(0.999));
  fm::Rng rng(1, test_device());
  const at::Tensor t = fm::PowerTime()(10000, torch::kDouble, rng);
  CHECK(t.mean().item<double>() == Approx(0.999 * 0.4).margin(0.01));  // E u = 0.6
}

TEST_CASE("time_densities: a power moves times to either end") {
  const at::Tensor at = doubles({0.2, 0.5, 0.9});
  CHECK(close(shares_below(fm::PowerTime(0, 1), at), at, 0, 4e-3));
  CHECK(close(shares_below(fm::PowerTime(2, 1), at), 1 - (1 - at).pow(3), 0, 4e-3));
  CHECK(close(shares_below(fm::PowerTime(-0.5, 1), at), 1 - (1 - at).sqrt(), 0, 4e-3));
}

TEST_CASE("time_densities: mode times have SD3's density") {
  // Theirs counts the other way; the density is the same from both ends.
  const at::Tensor u = on_device::linspace(0, 1, 11, torch::kDouble);
  for (const double s : {-1.0, 0.0, 0.8, 1.29, 1.75}) {
    const fm::ModeTime time(s);
    const at::Tensor theirs = 1 - u - s * ((u * (M_PI / 2)).cos().square() - 1 + u);
    CHECK(close(1 - time.quantile(u), theirs, 1e-12, 1e-12));
    CHECK((time.quantile(u).diff() > -1e-12).all().item<bool>());
    CHECK(time.quantile(u)[5].item<double>() == Approx(0.5));
  }
  fm::Rng rng(2, test_device());
  const at::Tensor t = fm::ModeTime(1.29)(50000, torch::kDouble, rng);
  CHECK((t - 0.5).abs().mean().item<double>() < 0.2);  // 0.25 for uniform ones
}

TEST_CASE("time_densities: EDM's noise levels are log-normal on the straight path") {
  fm::Rng rng(4, test_device());
  const at::Tensor t = fm::edm_time()(100000, torch::kDouble, rng);
  const at::Tensor log_sigma = ((1 - t) / t).log();
  CHECK(log_sigma.mean().item<double>() == Approx(-1.2).margin(0.02));
  CHECK(log_sigma.std().item<double>() == Approx(1.2).margin(0.02));
}

TEST_CASE("time_densities: each can be stratified") {
  fm::Rng rng(5, test_device());
  const auto even = [&](const auto& time, double share, double at) {
    const at::Tensor t = fm::StratifiedTime(time)(1000, torch::kDouble, rng);
    CHECK(t.le(at).to(torch::kDouble).mean().template item<double>() ==
          Approx(share).margin(1.1e-3));
  };
  even(fm::PowerTime(1, 1), 0.75, 0.5);
  even(fm::ModeTime(), 0.5, 0.5);
  even(fm::edm_time(), 0.5, 1 / (1 + std::exp(-1.2)));
}

TEST_CASE("time_densities: options out of range are refused") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double k : {-1.0, nan, std::numeric_limits<double>::infinity()})
    require_error<fm::OptionError>([&] { fm::PowerTime{k}; }, "above -1");
  for (const double max : {0.0, 1.1, nan})
    require_error<fm::OptionError>([&] { fm::PowerTime(1, max); }, "(0, 1]");
  for (const double s : {-1.1, 1.76, nan})
    require_error<fm::OptionError>([&] { fm::ModeTime{s}; }, "[-1, 1.752]");
}
