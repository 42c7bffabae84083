#include "flowmatch/coupling/source.hpp"

#include "flowmatch/core/error.hpp"
#include "tests/support/test.hpp"

TEST_CASE("source: the concept of starts takes callables of a batch and an Rng") {
  static_assert(fm::Source<fm::GaussianSource>);
  static_assert(fm::Source<fm::GaussianSource, at::Tensor>);
  static_assert(fm::Source<fm::ConstantSource> && fm::Source<fm::PairedSource>);
  auto lambda = [](const fm::Batch<>& batch, fm::Rng&) { return batch.x_1 * 2; };
  static_assert(fm::Source<decltype(lambda)>);
  static_assert(!fm::Source<decltype(lambda), at::Tensor>);
  static_assert(!fm::Source<at::Tensor>);
  auto without_rng = [](const fm::Batch<>& batch) { return batch.x_1; };
  static_assert(!fm::Source<decltype(without_rng)>);
  fm::Rng rng(0, test_device());
  CHECK(at::equal(lambda({on_device::ones({1})}, rng), on_device::full({1}, 2.0)));
}

TEST_CASE("source: Gaussian noise is standard normal in the shape and dtype of the data") {
  fm::Rng rng(1, test_device());
  const fm::Batch<> batch{on_device::full({50, 2, 30, 30}, 7.0, torch::kDouble)};
  const at::Tensor x_0 = fm::GaussianSource{}(batch, rng);
  CHECK(x_0.sizes() == batch.x_1.sizes());
  CHECK(x_0.scalar_type() == torch::kDouble);
  CHECK(x_0.mean().item<double>() == Approx(0).margin(0.015));
  CHECK(x_0.var().item<double>() == Approx(1).margin(0.025));
  CHECK_FALSE(at::equal(fm::GaussianSource{}(batch, rng), x_0));
  fm::Rng again(1, test_device());
  CHECK(at::equal(fm::GaussianSource{}(batch, again), x_0));
}

TEST_CASE("source: a blank page has one value everywhere") {
  fm::Rng rng(0, test_device());
  const fm::Batch<at::Tensor> batch{on_device::rand({2, 3}), on_device::arange(2)};
  CHECK(at::equal(fm::ConstantSource(0.5)(batch, rng), on_device::full({2, 3}, 0.5)));
  CHECK(at::equal(fm::ConstantSource()(batch, rng), on_device::zeros({2, 3})));
}

TEST_CASE("source: paired starts come from the batch or are a DataError") {
  fm::Rng rng(0, test_device());
  const fm::Batch<> batch{on_device::rand({2, 3}), {}, on_device::rand({2, 3})};
  CHECK(fm::PairedSource{}(batch, rng).is_same(batch.x_0));
  require_error<fm::DataError>([&] { fm::PairedSource{}(fm::Batch<>{on_device::rand({2})}, rng); },
                               "fill Batch::x_0");
}
