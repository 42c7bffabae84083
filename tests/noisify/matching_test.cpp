#include "flowmatch/noisify/matching.hpp"

#include "flowmatch/core/slice.hpp"
#include "flowmatch/core/tensors_in.hpp"
#include "flowmatch/noisify/noisifier.hpp"
#include "tests/support/test.hpp"

TEST_CASE("matching: starts and noise are normal and apart, looks lie in their range") {
  const fm::MatchingNoisifier noisify(fm::UniformTime(0.75));
  static_assert(fm::Noisifier<fm::MatchingNoisifier<>, at::Tensor>);
  const fm::Batch<at::Tensor> batch{on_device::randn({20000, 2}), on_device::arange(20000)};
  fm::Rng rng(1, test_device()), same(1, test_device());
  const auto noised = noisify(batch, rng);
  for (const at::Tensor& normal : {noised.x_t, noised.noise}) {
    CHECK(normal.mean().item<double>() == Approx(0).margin(0.02));
    CHECK(normal.var().item<double>() == Approx(1).margin(0.03));
  }
  CHECK((noised.x_t * noised.noise).mean().item<double>() == Approx(0).margin(0.02));
  CHECK(noised.t.eq(0).all().item<bool>());
  CHECK(noised.look.min().item<double>() == Approx(0).margin(0.001));
  CHECK(noised.look.max().item<double>() == Approx(0.75).margin(0.001));
  CHECK(at::equal(noised.target, batch.x_1 - noised.x_t));
  CHECK(at::equal(noised.condition, batch.condition));
  CHECK(at::equal(noisify(batch, same).noise, noised.noise));
}

TEST_CASE("matching: parts of an example, and its tensors") {
  fm::Rng rng(1, test_device());
  auto noised = fm::MatchingNoisifier()(fm::Batch<>{on_device::randn({6, 3})}, rng);
  const auto part = fm::slice(noised, 2, 5);
  CHECK(at::equal(part.x_t, noised.x_t.slice(0, 2, 5)));
  CHECK(at::equal(part.noise, noised.noise.slice(0, 2, 5)));
  CHECK(at::equal(part.look, noised.look.slice(0, 2, 5)));
  int count = 0;
  fm::for_each_tensor(noised, [&](at::Tensor&) { ++count; });
  CHECK(count == 5);
  require_error<fm::ShapeError>(
      [&] { fm::MatchingNoisifier()(fm::Batch<>{on_device::zeros({2}, at::kLong)}, rng); },
      "cannot be mixed with noise");
}
