#include "flowmatch/data/tensor_batches.hpp"

#include "tests/support/test.hpp"

namespace {

/// Sample i is (i, -i); its label is 10 i.
at::Tensor points(std::int64_t n) {
  const at::Tensor i = on_device::arange(n, torch::kFloat);
  return torch::stack({i, -i}, 1);
}
at::Tensor labels(std::int64_t n) { return on_device::arange(n) * 10; }

/// The rest of an epoch: its samples in order, and the sizes of its batches.
struct Epoch {
  std::vector<std::int64_t> samples;
  std::vector<std::int64_t> sizes;
  bool operator==(const Epoch&) const = default;
};
template <class Source>
Epoch rest(Source& source) {
  Epoch epoch;
  while (const auto batch = source.next()) {
    epoch.sizes.push_back(batch->x_1.size(0));
    for (std::int64_t i = 0; i < batch->x_1.size(0); ++i) {
      epoch.samples.push_back(batch->x_1[i][0].template item<std::int64_t>());
    }
  }
  return epoch;
}
template <class Source>
Epoch run(Source& source, std::int64_t epoch, std::int64_t batch = 0) {
  source.start_epoch(epoch, batch);
  return rest(source);
}

fm::TensorBatchesOptions seeded(std::uint64_t seed) { return {.seed = seed}; }
fm::TensorBatchesOptions last(fm::LastBatch what) { return {.last_batch = what}; }

}  // namespace

TEST_CASE("tensor_batches: the condition decides the type") {
  static_assert(std::is_same_v<decltype(fm::TensorBatches(points(3), 2)), fm::TensorBatches<>>);
  static_assert(std::is_same_v<decltype(fm::TensorBatches(points(3), labels(3), 2, seeded(1))),
                               fm::TensorBatches<at::Tensor>>);
  static_assert(fm::RestartableSource<fm::TensorBatches<>>);
  static_assert(fm::RestartableSource<fm::TensorBatches<std::tuple<at::Tensor, at::Tensor>>>);
}

TEST_CASE("tensor_batches: an epoch holds each sample once") {
  fm::TensorBatches source(points(23), 4);
  CHECK(source.batches_per_epoch() == 6);
  for (const int epoch : {0, 1, 7}) {
    Epoch seen = run(source, epoch);
    CHECK(seen.sizes == std::vector<std::int64_t>{4, 4, 4, 4, 4, 3});
    CHECK_FALSE(std::is_sorted(seen.samples.begin(), seen.samples.end()));
    std::sort(seen.samples.begin(), seen.samples.end());
    for (std::int64_t i = 0; i < 23; ++i) CHECK(seen.samples[static_cast<std::size_t>(i)] == i);
  }
}

TEST_CASE("tensor_batches: conditions stay with their samples") {
  fm::TensorBatches source(points(20), std::tuple(labels(20), points(20)), 6);
  source.start_epoch(2);
  int batches = 0;
  while (const auto batch = source.next()) {
    ++batches;
    CHECK(at::equal(std::get<0>(batch->condition), batch->x_1.select(1, 0).to(torch::kLong) * 10));
    CHECK(at::equal(std::get<1>(batch->condition), batch->x_1));
    CHECK_FALSE(batch->x_0.defined());
  }
  CHECK(batches == source.batches_per_epoch());
}

TEST_CASE("tensor_batches: the order comes from seed and epoch alone") {
  fm::TensorBatches a(points(30), 7, seeded(5));
  fm::TensorBatches b(points(30), 7, seeded(5));
  run(a, 0);
  run(a, 1);
  a.start_epoch(2);
  a.next();
  const Epoch third = run(a, 3);
  CHECK(run(b, 3) == third);
  CHECK(run(b, 3) == third);
  CHECK_FALSE(run(b, 4) == third);
  fm::TensorBatches other(points(30), 7, seeded(6));
  CHECK_FALSE(run(other, 3) == third);
  // The batch size cuts the same order differently.
  fm::TensorBatches coarse(points(30), 11, seeded(5));
  CHECK(run(coarse, 3).samples == third.samples);
}

TEST_CASE("tensor_batches: without shuffling the order is that of the data") {
  fm::TensorBatches source(points(5), 2, {.shuffle = false, .last_batch = fm::LastBatch::keep});
  for (const int epoch : {0, 1}) {
    const Epoch seen = run(source, epoch);
    CHECK(seen.samples == std::vector<std::int64_t>{0, 1, 2, 3, 4});
    CHECK(seen.sizes == std::vector<std::int64_t>{2, 2, 1});
  }
}

TEST_CASE("tensor_batches: an epoch goes on from any batch as if it had not stopped") {
  for (const bool shuffle : {true, false}) {
    fm::TensorBatches source(points(25), 4, {.shuffle = shuffle});
    for (std::int64_t batch = 0; batch <= source.batches_per_epoch(); ++batch) {
      source.start_epoch(1);
      for (std::int64_t i = 0; i < batch; ++i) source.next();
      const Epoch expected = rest(source);
      fm::TensorBatches fresh(points(25), 4, {.shuffle = shuffle});
      CHECK(run(fresh, 1, batch) == expected);
    }
  }
}

TEST_CASE("tensor_batches: the last batch is merged or kept or dropped") {
  using Sizes = std::vector<std::int64_t>;
  const auto sizes = [](std::int64_t n, std::int64_t batch_size, fm::LastBatch what) {
    fm::TensorBatches source(points(n), batch_size, last(what));
    const Sizes found = run(source, 0).sizes;
    CHECK(static_cast<std::int64_t>(found.size()) == source.batches_per_epoch());
    return found;
  };
  CHECK(sizes(9, 4, fm::LastBatch::merge_single) == Sizes{4, 5});
  CHECK(sizes(10, 4, fm::LastBatch::merge_single) == Sizes{4, 4, 2});
  CHECK(sizes(8, 4, fm::LastBatch::merge_single) == Sizes{4, 4});
  CHECK(sizes(1, 4, fm::LastBatch::merge_single) == Sizes{1});
  CHECK(sizes(3, 1, fm::LastBatch::merge_single) == Sizes{1, 1, 1});
  CHECK(sizes(9, 4, fm::LastBatch::keep) == Sizes{4, 4, 1});
  CHECK(sizes(3, 4, fm::LastBatch::keep) == Sizes{3});
  CHECK(sizes(9, 4, fm::LastBatch::drop) == Sizes{4, 4});
  CHECK(sizes(11, 4, fm::LastBatch::drop) == Sizes{4, 4});
  CHECK(sizes(8, 4, fm::LastBatch::drop) == Sizes{4, 4});
}

TEST_CASE("tensor_batches: bad input is refused with a message that says what is wrong") {
  require_error<fm::OptionError>([] { fm::TensorBatches source(points(3), 0); },
                                 "a batch size of 0");
  require_error<fm::OptionError>([] { fm::TensorBatches source(points(3), -2); },
                                 "a batch size of -2");
  require_error<fm::OptionError>(
      [] { fm::TensorBatches source(points(3), 4, last(fm::LastBatch::drop)); }, "leaves no batch");
  require_error<fm::DataError>([] { fm::TensorBatches source(points(0), 4); },
                               "x_1 has shape [0, 2]");
  require_error<fm::DataError>([] { fm::TensorBatches source(at::Tensor(), 4); }, "undefined");
  require_error<fm::DataError>([] { fm::TensorBatches source(on_device::tensor(1.0), 4); }, "[]");
  require_error<fm::ShapeError>([] { fm::TensorBatches source(points(3), labels(4), 2); },
                                "4 entries for 3 samples");
  fm::TensorBatches source(points(3), 2);
  require_error<fm::OptionError>([&] { source.start_epoch(0, -1); }, "batch -1");
  require_error<fm::OptionError>([&] { source.start_epoch(0, 3); }, "batch 3 of an epoch of");
}

TEST_CASE("tensor_batches: nothing comes before an epoch starts or after it ends") {
  fm::TensorBatches source(points(4), 2);
  CHECK_FALSE(source.next().has_value());
  run(source, 0);
  CHECK_FALSE(source.next().has_value());
}

TEST_CASE("tensor_batches: the fingerprint tells data and order and batch size apart") {
  const std::string print = fm::TensorBatches(points(9), 4).fingerprint();
  CHECK(fm::TensorBatches(points(9), 4).fingerprint() == print);
  at::Tensor changed = points(9);
  changed[5][1] += 1;
  const std::vector<std::string> others = {
      fm::TensorBatches(changed, 4).fingerprint(),
      fm::TensorBatches(points(10), 4).fingerprint(),
      fm::TensorBatches(points(9).to(torch::kDouble), 4).fingerprint(),
      fm::TensorBatches(points(9).view({9, 2, 1}), 4).fingerprint(),
      fm::TensorBatches(points(9), 5).fingerprint(),
      fm::TensorBatches(points(9), 4, seeded(1)).fingerprint(),
      fm::TensorBatches(points(9), 4, {.shuffle = false}).fingerprint(),
      fm::TensorBatches(points(9), 4, last(fm::LastBatch::keep)).fingerprint(),
  };
  for (const std::string& other : others) CHECK(other != print);
  // Of much data, 64 samples at even distances.
  const at::Tensor many = points(6400);
  at::Tensor one_changed = many.clone();
  one_changed[100] += 1;
  CHECK(fm::TensorBatches(one_changed, 4).fingerprint() !=
        fm::TensorBatches(many, 4).fingerprint());

  using Pair = std::tuple<at::Tensor, at::Tensor>;
  const auto of = [](const auto& condition) {
    return fm::TensorBatches(points(9), condition, 4).fingerprint();
  };
  const at::Tensor labels = on_device::arange(9);
  CHECK(of(labels) == of(labels.clone()));
  CHECK(of(labels) != of(labels.flip(0)));
  CHECK(of(labels) != of(labels.to(torch::kInt)));
  CHECK(of(labels) != print);
  CHECK(of(Pair{labels, labels}) != of(Pair{labels, labels.flip(0)}));
}

TEST_CASE("tensor_batches: batches carry no gradients to what the data came from") {
  const at::Tensor z = on_device::randn({6, 2}).requires_grad_() * 2;
  const auto check = [](const auto& condition, const at::Tensor& x_1) {
    fm::TensorBatches batches(x_1, condition, 3);
    batches.start_epoch(0);
    return *batches.next();
  };
  const auto plain = check(z.select(1, 0), z);
  CHECK_FALSE(plain.x_1.requires_grad());
  CHECK_FALSE(plain.condition.requires_grad());
  const auto several = check(std::tuple(z.select(1, 0), on_device::arange(6)), z);
  CHECK_FALSE(std::get<0>(several.condition).requires_grad());
}

TEST_CASE("tensor_batches: each sample's own start comes with it") {
  const at::Tensor x_1 = on_device::arange(20, torch::kFloat).view({10, 2}), x_0 = -x_1;
  fm::TensorBatches batches(x_1, on_device::arange(10), 4, {.seed = 3, .x_0 = x_0});
  batches.start_epoch(1);
  while (const auto batch = batches.next()) CHECK(at::equal(batch->x_0, -batch->x_1));
  fm::TensorBatches plain(x_1, on_device::arange(10), 4, {.seed = 3});
  plain.start_epoch(1);
  CHECK_FALSE(plain.next()->x_0.defined());
  CHECK(plain.fingerprint() != batches.fingerprint());
  fm::TensorBatches other(x_1, on_device::arange(10), 4, {.seed = 3, .x_0 = x_0 + 1});
  CHECK(other.fingerprint() != batches.fingerprint());
  require_error<fm::ShapeError>([&] { fm::TensorBatches(x_1, 4, {.x_0 = x_0[0]}); }, "x_0");
}
