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
  // Of float32 times some few are alike by chance.
  CHECK(noised.r.eq(noised.t).sum().item<std::int64_t>() == Approx(6000).margin(3));
  REQUIRE(noised.apart.size(0) == 14000);
  CHECK(std::get<0>(noised.apart.sort()).diff().min().item<std::int64_t>() == 1);  // each once
  at::Tensor rest = noised.r.clone();
  rest.index_copy_(0, noised.apart, noised.t.index_select(0, noised.apart));
  CHECK(at::equal(rest, noised.t));
  CHECK(at::equal(noised.condition, batch.condition));
  // On the straight path, x_t = x_1 - (1 - t) dx_t.
  CHECK(close(noised.x_t, batch.x_1 - (1 - noised.t).unsqueeze(1) * noised.target, 1e-5, 1e-5));
  CHECK(at::equal(noisify(batch, same).r, noised.r));
  const auto part = fm::slice(noised, 3, 5);
  CHECK(at::equal(part.r, noised.r.slice(0, 3, 5)));
  CHECK_FALSE(part.apart.defined());
  CHECK(at::equal(part.condition, on_device::tensor({3, 4})));
}

TEST_CASE("two_times: the share is kept on average where it is no whole number of samples") {
  const fm::TwoTimeNoisifier noisify(fm::LinearPath{}, 0.75);
  fm::Rng rng(1, test_device());
  std::vector<int> counts(3);
  for (int i = 0; i < 2000; ++i) {
    const auto k = noisify(fm::Batch<>{on_device::zeros({5, 2})}, rng).apart.size(0);
    REQUIRE((k == 1 || k == 2));
    ++counts[static_cast<std::size_t>(k)];
  }
  CHECK(counts[2] == Approx(500).margin(90));  // 1.25 on average; four deviations
  for (const double equal : {0.0, 1.0}) {
    const fm::TwoTimeNoisifier all(fm::LinearPath{}, equal);
    CHECK(all(fm::Batch<>{on_device::zeros({5, 2})}, rng).apart.size(0) == (equal == 0 ? 5 : 0));
  }
}

TEST_CASE("two_times: a share outside [0, 1] is refused") {
  for (const double p : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()})
    require_error<fm::OptionError>([&] { fm::TwoTimeNoisifier(fm::LinearPath{}, p); }, "[0, 1]");
}
