#include "flowmatch/path/scheduler.hpp"

#include "flowmatch/path/schedulers.hpp"
#include "tests/support/test.hpp"

namespace {

struct OneWay {
  fm::Coefficients operator()(const at::Tensor& t) const { return {t, t, t, t}; }
};
struct NoCoefficients {
  at::Tensor operator()(const at::Tensor& t) const { return t; }
};

}  // namespace

TEST_CASE("scheduler: the concepts take schedulers and refuse the rest") {
  static_assert(fm::InvertibleScheduler<fm::CondOTScheduler>);
  static_assert(fm::InvertibleScheduler<fm::PolynomialScheduler>);
  static_assert(fm::InvertibleScheduler<fm::VPScheduler>);
  static_assert(fm::InvertibleScheduler<fm::LinearVPScheduler>);
  static_assert(fm::InvertibleScheduler<fm::CosineScheduler>);
  static_assert(fm::Scheduler<OneWay> && !fm::InvertibleScheduler<OneWay>);
  static_assert(!fm::Scheduler<NoCoefficients>);
  static_assert(!fm::Scheduler<int>);
  auto lambda = [](const at::Tensor& t) { return fm::Coefficients{t, 1 - t, t, t}; };
  static_assert(fm::Scheduler<decltype(lambda)>);
  CHECK(at::equal(lambda(doubles({0.25})).sigma_t, doubles({0.75})));
}
