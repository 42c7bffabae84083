#include "flowmatch/noisify/condition_dropout.hpp"

#include <limits>
#include <tuple>

#include "flowmatch/path/affine.hpp"
#include "flowmatch/path/bridge.hpp"
#include "tests/support/test.hpp"

TEST_CASE("condition_dropout: a share of the samples loses its condition and nothing else") {
  const fm::VelocityNoisifier noisify(fm::LinearPath{});
  const fm::Batch<at::Tensor> batch{on_device::randn({20000, 1}), on_device::arange(20000)};
  const fm::ConditionDropout dropping(noisify, on_device::tensor({-1}), 0.2);
  fm::Rng a(1, test_device()), b(1, test_device());
  const auto noised = dropping(batch, a);
  CHECK(at::equal(noised.x_t, noisify(batch, b).x_t));
  const at::Tensor dropped = noised.condition.eq(-1);
  CHECK(dropped.to(at::kFloat).mean().item<double>() == Approx(0.2).margin(0.01));
  CHECK(at::equal(at::where(dropped, batch.condition, noised.condition), batch.condition));
  fm::Rng c(1, test_device()), d(1, test_device());
  CHECK(at::equal(fm::ConditionDropout(noisify, on_device::tensor({-1}), 0)(batch, c).condition,
                  batch.condition));
  CHECK(fm::ConditionDropout(noisify, on_device::tensor({-1}), 1)(batch, d)
            .condition.eq(-1)
            .all()
            .item<bool>());
}

TEST_CASE("condition_dropout: conditions of any type, examples that hold more") {
  using Two = std::tuple<at::Tensor, at::Tensor>;
  const fm::Batch<Two> batch{on_device::randn({50, 2}),
                             {on_device::rand({50, 3}), on_device::arange(50)}};
  const fm::ConditionDropout dropping(fm::VelocityNoisifier(fm::BridgePath(0.5)),
                                      Two{on_device::zeros({1, 3}), on_device::tensor({99})}, 0.5);
  static_assert(fm::Noisifier<decltype(fm::ConditionDropout(
                                  fm::VelocityNoisifier(fm::BridgePath(0.5)), Two{}, 0.5)),
                              Two>);
  fm::Rng rng(2, test_device());
  const auto noised = dropping(batch, rng);
  const at::Tensor dropped = std::get<1>(noised.condition).eq(99);
  CHECK(dropped.any().item<bool>());
  CHECK_FALSE(dropped.all().item<bool>());
  CHECK(at::equal(std::get<0>(noised.condition).eq(0).all(1), dropped));
  CHECK(noised.sample.epsilon.size(0) == 50);
}

TEST_CASE("condition_dropout: what cannot be is refused") {
  const fm::VelocityNoisifier noisify(fm::LinearPath{});
  for (const double p : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()}) {
    require_error<fm::OptionError>(
        [&] { fm::ConditionDropout(noisify, on_device::tensor({1}), p); }, "[0, 1]");
  }
  require_error<fm::ShapeError>(
      [&] {
        fm::ConditionDropout(noisify, on_device::tensor({1, 2}));
      },
      "2 entries for 1 samples");
}
