#include "flowmatch/noisify/two_times.hpp"

#include <limits>

#include "flowmatch/core/slice.hpp"
#include "flowmatch/path/affine.hpp"
#include "tests/support/test.hpp"

TEST_CASE("two_times: t is the earlier one, and a share of the samples has one time") {
  const fm::TwoTimeNoisifier noisify(fm::LinearPath{}, 0.3);
  static_assert(fm::Noisifier<fm::TwoTimeNoisifier<fm::LinearPath>, at::Tensor>);
  const fm::Batch<at::Tensor> batch{on_device::randn({20000, 2}), on_device::arange(20000)};
  fm::Rng rng(1, test_device()), same(1, test_device());
  const auto noised = noisify(batch, rng);
  CHECK((noised.r >= noised.t).all().item<bool>());
  CHECK(noised.r.eq(noised.t).to(at::kFloat).mean().item<double>() == Approx(0.3).margin(0.015));
  CHECK(at::equal(noised.condition, batch.condition));
  // On the straight path, x_t = x_1 - (1 - t) dx_t.
  CHECK(close(noised.x_t, batch.x_1 - (1 - noised.t).unsqueeze(1) * noised.target, 1e-5, 1e-5));
  CHECK(at::equal(noisify(batch, same).r, noised.r));
  const auto part = fm::slice(noised, 3, 5);
  CHECK(at::equal(part.r, noised.r.slice(0, 3, 5)));
  CHECK(at::equal(part.condition, on_device::tensor({3, 4})));
}

TEST_CASE("two_times: a probability outside [0, 1] is refused") {
  for (const double p : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()})
    require_error<fm::OptionError>([&] { fm::TwoTimeNoisifier(fm::LinearPath{}, p); }, "[0, 1]");
}
