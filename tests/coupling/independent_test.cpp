#include "flowmatch/coupling/independent.hpp"

#include "tests/support/test.hpp"

TEST_CASE("independent: x_1 and the condition pass and x_0 comes from the source") {
  fm::Rng rng(4, test_device());
  const fm::Batch<at::Tensor> batch{on_device::rand({3, 2}), on_device::arange(3)};
  const fm::Coupled<at::Tensor> pair = fm::IndependentCoupling<>{}(batch, rng);
  CHECK(pair.x_1.is_same(batch.x_1));
  CHECK(pair.condition.is_same(batch.condition));
  fm::Rng again(4, test_device());
  CHECK(at::equal(pair.x_0, fm::GaussianSource{}(batch, again)));
}

TEST_CASE("independent: any source serves") {
  fm::Rng rng(0, test_device());
  const fm::Batch<> batch{on_device::rand({3, 2}), {}, on_device::rand({3, 2})};
  const fm::IndependentCoupling blank(fm::ConstantSource(-0.5));
  CHECK(at::equal(blank(batch, rng).x_0, on_device::full({3, 2}, -0.5)));
  CHECK(fm::IndependentCoupling<fm::PairedSource>{}(batch, rng).x_0.is_same(batch.x_0));
  const fm::IndependentCoupling mine(
      [](const fm::Batch<>& b, fm::Rng& r) { return r.uniform(b.x_1.sizes()) + 5; });
  CHECK(mine(batch, rng).x_0.min().item<float>() >= 5);
}

TEST_CASE("independent: a source of another shape or dtype is a ShapeError") {
  fm::Rng rng(0, test_device());
  const fm::Batch<> batch{on_device::rand({3, 2})};
  const fm::IndependentCoupling flat([](const fm::Batch<>& b, fm::Rng&) {
    return on_device::zeros({b.x_1.size(0), 1});
  });
  require_error<fm::ShapeError>([&] { flat(batch, rng); },
                                "the source's x_0 has shape [3, 1] and x_1 has shape [3, 2]");
  const fm::IndependentCoupling wide(
      [](const fm::Batch<>& b, fm::Rng&) { return b.x_1.to(torch::kDouble); });
  require_error<fm::ShapeError>([&] { wide(batch, rng); }, "x_0 is Double and x_1 is Float");
}

TEST_CASE("independent: a batch that is no batch is a ShapeError") {
  fm::Rng rng(0, test_device());
  const fm::IndependentCoupling<> coupling;
  require_error<fm::ShapeError>([&] { coupling(fm::Batch<>{}, rng); }, "undefined");
  require_error<fm::ShapeError>([&] { coupling(fm::Batch<>{on_device::tensor(1.0)}, rng); }, "[]");
  const fm::Batch<at::Tensor> uneven{on_device::rand({3, 2}), on_device::arange(2)};
  require_error<fm::ShapeError>([&] { coupling(uneven, rng); }, "2 entries for 3 samples");
}
