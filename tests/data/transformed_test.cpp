#include "flowmatch/data/transformed.hpp"

#include "flowmatch/data/prefetch.hpp"
#include "flowmatch/data/tensor_batches.hpp"
#include "flowmatch/io/mapped_npy.hpp"
#include "tests/support/test.hpp"
#include "tests/train/training.hpp"

namespace {

at::Tensor to_float(const at::Tensor& x) { return x.to(torch::kFloat) / 127.5 - 1; }

at::Tensor bytes() { return on_device::arange(48, torch::kByte).view({24, 2}); }

template <class Source>
std::vector<at::Tensor> batches_of(Source& source) {
  std::vector<at::Tensor> all;
  while (const auto batch = source.next()) all.push_back(batch->x_1);
  return all;
}

struct Plain {
  using condition_type = fm::NoCondition;
  std::int64_t batches_per_epoch() { return 1; }
  void start_epoch(std::int64_t) { given = false; }
  std::optional<fm::Batch<>> next() {
    if (std::exchange(given, true)) return std::nullopt;
    return fm::Batch<>{on_device::ones({2}), {}, on_device::zeros({2})};
  }
  bool given = true;
};

}  // namespace

TEST_CASE("transformed: each batch goes through the function and keeps its place and condition") {
  fm::TensorBatches inner(bytes(), on_device::arange(24), 5, {.seed = 2});
  fm::Transformed source(inner, to_float);
  static_assert(fm::RestartableSource<decltype(source)>);
  CHECK(source.batches_per_epoch() == inner.batches_per_epoch());
  inner.start_epoch(3, 1);
  source.start_epoch(3, 1);
  int batches = 0;
  while (const auto batch = source.next()) {
    const auto before = inner.next();
    REQUIRE(before.has_value());
    CHECK(at::equal(batch->x_1, to_float(before->x_1)));
    CHECK(at::equal(batch->condition, before->condition));
    ++batches;
  }
  CHECK(batches == 4);
  source.start_epoch(0);
  inner.start_epoch(0);
  CHECK(at::equal(source.next()->x_1, to_float(inner.next()->x_1)));
}

TEST_CASE("transformed: the fingerprint is the source's and the function's name") {
  fm::TensorBatches inner(bytes(), 5);
  CHECK(fm::Transformed(inner, to_float, "to float").fingerprint() ==
        inner.fingerprint() + ", to float");
  CHECK(fm::Transformed(inner, to_float).fingerprint() != inner.fingerprint());
}

TEST_CASE("transformed: a source that cannot restart stays one and its x_0 stays") {
  fm::Transformed source(Plain{}, [](const at::Tensor& x) { return x + 1; });
  static_assert(fm::BatchSource<decltype(source)> && !fm::RestartableSource<decltype(source)>);
  source.start_epoch(0);
  const auto batch = source.next();
  REQUIRE(batch.has_value());
  CHECK(at::equal(batch->x_1, on_device::full({2}, 2.0F)));
  CHECK(at::equal(batch->x_0, on_device::zeros({2})));
  CHECK_FALSE(source.next().has_value());
}

TEST_CASE("transformed: bytes of a mapped file train as floats in memory do") {
  const TemporaryFolder folder;
  fm::save_npy(folder.path() / "bytes.npy", bytes());
  const auto trained = [](auto source) {
    auto net = training::mlp();
    fm::Trainer(net, training::noisifier(), {.epochs = 2}).fit(std::move(source));
    return training::values(*net);
  };
  const auto mapped = trained(fm::Prefetch(fm::Transformed(
      fm::TensorBatches(fm::map_npy(folder.path() / "bytes.npy"), 5, {.seed = 4}), to_float)));
  CHECK(training::same_bits(mapped, trained(fm::TensorBatches(to_float(bytes()), 5, {.seed = 4}))));
}
