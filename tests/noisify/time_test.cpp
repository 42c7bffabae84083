#include "flowmatch/noisify/time.hpp"

#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/support/test.hpp"

namespace {

template <class Sampler>
at::Tensor draw(const Sampler& sampler, std::int64_t n = 100000,
                at::TensorOptions options = torch::kDouble) {
  fm::Rng rng(17, test_device());
  return sampler(n, options, rng);
}

}  // namespace

TEST_CASE("time: the concept takes samplers and refuses the rest") {
  static_assert(fm::TimeSampler<fm::UniformTime> && fm::TimeSampler<fm::LogitNormalTime>);
  static_assert(fm::TimeSampler<fm::StratifiedTime<fm::LogitNormalTime>>);
  auto half = [](std::int64_t n, at::TensorOptions options, fm::Rng&) {
    return on_device::full({n}, 0.5, options);
  };
  static_assert(fm::TimeSampler<decltype(half)>);
  auto without_rng = [](std::int64_t n) { return on_device::zeros({n}); };
  static_assert(!fm::TimeSampler<decltype(without_rng)>);
  static_assert(!fm::TimeSampler<double>);
  CHECK(draw(half, 3).sum().item<double>() == 1.5);
}

TEST_CASE("time: uniform times fill the interval evenly") {
  const at::Tensor t = draw(fm::UniformTime());
  CHECK(t.sizes() == at::IntArrayRef({100000}));
  CHECK(t.scalar_type() == torch::kDouble);
  CHECK(t.min().item<double>() >= 0);
  CHECK(t.max().item<double>() < 1);
  CHECK(t.max().item<double>() > 0.999);
  CHECK(t.mean().item<double>() == Approx(0.5).margin(0.005));
  CHECK(t.var().item<double>() == Approx(1.0 / 12).margin(0.002));
}

TEST_CASE("time: the clamp moves late times to its maximum and no others") {
  const at::Tensor free = draw(fm::UniformTime());
  const at::Tensor clamped = draw(fm::UniformTime(0.9));
  CHECK(clamped.max().item<double>() == 0.9);
  CHECK(at::equal(clamped, free.clamp_max(0.9)));
  CHECK((clamped == 0.9).to(torch::kDouble).mean().item<double>() == Approx(0.1).margin(0.01));
}

TEST_CASE("time: stratified times lie evenly in a batch, each of them anywhere") {
  constexpr std::int64_t n = 8;
  const at::Tensor sorted = std::get<0>(draw(fm::StratifiedTime(), n).sort());
  CHECK(sorted.max().item<double>() < 1);
  CHECK(at::allclose(sorted.diff(), on_device::full({n - 1}, 1.0 / n, torch::kDouble)));
  fm::Rng rng(17, test_device());
  std::vector<at::Tensor> firsts;
  for (int i = 0; i < 20000; ++i) firsts.push_back(fm::StratifiedTime()(n, torch::kDouble, rng)[0]);
  const at::Tensor first = at::stack(firsts);
  CHECK(first.mean().item<double>() == Approx(0.5).margin(0.01));
  CHECK(first.var().item<double>() == Approx(1.0 / 12).margin(0.002));
  CHECK(draw(fm::StratifiedTime(fm::UniformTime(0.9)), 1000).max().item<double>() == 0.9);
  CHECK(draw(fm::StratifiedTime(), 4, torch::kFloat).scalar_type() == torch::kFloat);
}

TEST_CASE("time: of a batch of stratified logit normal times each share has its number") {
  const at::Tensor t = draw(fm::StratifiedTime(fm::LogitNormalTime(0.8, 1.2)), 1000);
  const at::Tensor z = (t.logit() - 0.8) / 1.2;
  for (const auto& [limit, share] : {std::pair(-1.0, 0.15866), {0.0, 0.5}, {1.0, 0.84134}})
    CHECK((z < limit).sum().item<double>() == Approx(1000 * share).margin(1.01));
  CHECK(at::isfinite(fm::LogitNormalTime().quantile(on_device::zeros({1}))).all().item<bool>());
}

TEST_CASE("time: the logit of logit normal times is normal") {
  const at::Tensor t = draw(fm::LogitNormalTime(-0.5, 0.7));
  CHECK(t.min().item<double>() > 0);
  CHECK(t.max().item<double>() < 1);
  const at::Tensor z = t.logit();
  CHECK(z.mean().item<double>() == Approx(-0.5).margin(0.01));
  CHECK(z.std().item<double>() == Approx(0.7).margin(0.01));
  CHECK(draw(fm::LogitNormalTime()).median().item<double>() == Approx(0.5).margin(0.01));
}

TEST_CASE("time: options decide the dtype and the Rng the numbers") {
  CHECK(draw(fm::UniformTime(), 4, torch::kFloat).scalar_type() == torch::kFloat);
  CHECK(draw(fm::LogitNormalTime(), 4, torch::kFloat).scalar_type() == torch::kFloat);
  CHECK(at::equal(draw(fm::UniformTime(), 9), draw(fm::UniformTime(), 9)));
  fm::Rng rng(17, test_device());
  const at::Tensor first = fm::UniformTime()(9, torch::kDouble, rng);
  CHECK_FALSE(at::equal(fm::UniformTime()(9, torch::kDouble, rng), first));
}

TEST_CASE("time: options out of range are an OptionError") {
  CHECK_NOTHROW(fm::UniformTime(1.0000000000000007));  // 0.01 added up a hundred times
  for (const double max : {0.0, -0.5, 1.0001, std::numeric_limits<double>::quiet_NaN()}) {
    require_error<fm::OptionError>([&] { fm::UniformTime time(max); }, "a maximum in (0, 1]");
  }
  for (const double stddev : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN(),
                              std::numeric_limits<double>::infinity()}) {
    require_error<fm::OptionError>([&] { fm::LogitNormalTime time(0, stddev); }, "stddev above 0");
  }
  require_error<fm::OptionError>(
      [] { fm::LogitNormalTime time(std::numeric_limits<double>::infinity(), 1); },
      "a finite mean");
}

TEST_CASE("time: a fixed time is that of all samples, on the device and of the dtype asked for") {
  static_assert(fm::TimeSampler<fm::FixedTime>);
  for (const double value : {0.0, 0.25, 1.0}) {
    const at::Tensor t = draw(fm::FixedTime(value), 5);
    CHECK(torch::equal(t, on_device::full({5}, value, torch::kDouble)));
  }
  CHECK(draw(fm::FixedTime(0), 3, torch::kFloat).scalar_type() == torch::kFloat);
  CHECK(draw(fm::FixedTime(0), 0).numel() == 0);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double t : {-1e-9, 1.1, nan})
    require_error<fm::OptionError>([&] { fm::FixedTime{t}; }, "[0, 1]");
}
