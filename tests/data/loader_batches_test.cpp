#include "flowmatch/data/loader_batches.hpp"

#include "tests/support/test.hpp"

namespace {

/// Sample i is [i, i] with the target 10 i.
struct Numbers : torch::data::Dataset<Numbers> {
  explicit Numbers(std::size_t n) : n_(n) {}
  torch::data::Example<> get(std::size_t i) override {
    const auto value = static_cast<std::int64_t>(i);
    return {on_device::full({2}, static_cast<float>(i)), on_device::tensor(10 * value)};
  }
  std::optional<std::size_t> size() const override { return n_; }

 private:
  std::size_t n_;
};

auto sequential(std::size_t n, std::size_t batch_size, std::size_t workers = 0) {
  return torch::data::make_data_loader<torch::data::samplers::SequentialSampler>(
      Numbers(n).map(torch::data::transforms::Stack<>()),
      torch::data::DataLoaderOptions(batch_size).workers(workers));
}

template <class Source>
std::vector<std::int64_t> firsts(Source& source, std::int64_t epoch) {
  std::vector<std::int64_t> found;
  source.start_epoch(epoch);
  while (const auto batch = source.next()) {
    found.push_back(batch->x_1[0][0].template item<std::int64_t>());
  }
  return found;
}

using Firsts = std::vector<std::int64_t>;

/// A range of the user's own, without torch::data.
struct Sample {
  at::Tensor data;
  std::tuple<at::Tensor, at::Tensor> target;
};

}  // namespace

TEST_CASE("loader_batches: a data loader gives its batches with targets as conditions") {
  auto loader = sequential(10, 4);
  fm::LoaderBatches source(*loader, 3);
  static_assert(fm::BatchSource<decltype(source)>);
  static_assert(!fm::RestartableSource<decltype(source)>);
  static_assert(std::is_same_v<decltype(source)::condition_type, at::Tensor>);
  CHECK(source.batches_per_epoch() == 3);
  CHECK_FALSE(source.next().has_value());
  source.start_epoch(0);
  const Firsts sizes = {4, 4, 2};
  std::int64_t i = 0;
  for (const std::int64_t size : sizes) {
    const std::optional<fm::Batch<at::Tensor>> batch = source.next();
    REQUIRE(batch.has_value());
    CHECK(at::equal(batch->x_1.select(1, 0), on_device::arange(i, i + size, torch::kFloat)));
    CHECK(at::equal(batch->condition, on_device::arange(i, i + size) * 10));
    CHECK_FALSE(batch->x_0.defined());
    i += size;
  }
  CHECK_FALSE(source.next().has_value());
  CHECK_FALSE(source.next().has_value());
  CHECK(firsts(source, 1) == Firsts{0, 4, 8});
}

TEST_CASE("loader_batches: pointers to loaders are kept by address or owned") {
  auto loader = sequential(4, 2);
  fm::LoaderBatches by_address(loader, 2);
  CHECK(firsts(by_address, 0) == Firsts{0, 2});
  CHECK(loader != nullptr);
  fm::LoaderBatches owned(std::move(loader), 2);
  CHECK(loader == nullptr);
  CHECK(firsts(owned, 0) == Firsts{0, 2});
  CHECK(firsts(owned, 1) == Firsts{0, 2});
}

TEST_CASE("loader_batches: an epoch starts anew in the midst of another one") {
  for (const std::size_t workers : {0U, 2U}) {
    fm::LoaderBatches source(sequential(12, 2, workers), 6);
    source.start_epoch(0);
    source.start_epoch(0);
    source.next();
    source.next();
    CHECK(firsts(source, 1).size() == 6);
    // As the trainer does: exactly batches_per_epoch calls, then the next epoch.
    source.start_epoch(2);
    for (int i = 0; i < 6; ++i) REQUIRE(source.next().has_value());
    CHECK(firsts(source, 3).size() == 6);
  }
}

TEST_CASE("loader_batches: batches without a target have no condition") {
  std::vector<torch::data::TensorExample> batches = {on_device::zeros({2, 1}),
                                                     on_device::ones({3, 1})};
  fm::LoaderBatches source(batches, 2);
  static_assert(std::is_same_v<decltype(source)::condition_type, fm::NoCondition>);
  CHECK(firsts(source, 0) == Firsts{0, 1});
}

TEST_CASE("loader_batches: any range of data and target serves") {
  const std::vector<Sample> batches = {
      {on_device::zeros({2, 1}), {on_device::ones({2}), on_device::zeros(2)}}};
  fm::LoaderBatches source(batches, 1);
  static_assert(fm::BatchSource<decltype(source)>);
  source.start_epoch(0);
  const auto batch = source.next();
  REQUIRE(batch.has_value());
  CHECK(at::equal(std::get<0>(batch->condition), on_device::ones({2})));
  CHECK(batch->x_1.is_same(batches[0].data));
}

TEST_CASE("loader_batches: a wrong number of batches is a DataError with both numbers") {
  fm::LoaderBatches few(sequential(6, 2), 4);
  require_error<fm::DataError>([&] { firsts(few, 0); },
                               "gave 3 batches in an epoch that should have 4");
  fm::LoaderBatches many(sequential(6, 2), 2);
  require_error<fm::DataError>([&] { firsts(many, 0); }, "gave more than 2 batches");
  fm::LoaderBatches trained(sequential(6, 2), 2);
  trained.start_epoch(0);
  trained.next();
  trained.next();
  require_error<fm::DataError>([&] { trained.start_epoch(1); }, "gave more than 2 batches");
}

TEST_CASE("loader_batches: no batches and no loader are an OptionError") {
  auto loader = sequential(6, 2);
  require_error<fm::OptionError>([&] { fm::LoaderBatches source(*loader, 0); }, "0 batches");
  loader.reset();
  require_error<fm::OptionError>([&] { fm::LoaderBatches source(loader, 3); }, "is null");
}

TEST_CASE("loader_batches: the default generator decides a random order and brings it back") {
  const auto random = [] {
    return fm::LoaderBatches(torch::data::make_data_loader<torch::data::samplers::RandomSampler>(
                                 Numbers(30).map(torch::data::transforms::Stack<>()),
                                 torch::data::DataLoaderOptions(1).workers(2)),
                             30);
  };
  at::manual_seed(3);
  auto first = random();
  const Firsts epoch_0 = firsts(first, 0);
  at::Generator generator = at::globalContext().defaultGenerator(at::kCPU);
  const at::Tensor state = generator.get_state();
  const Firsts epoch_1 = firsts(first, 1);
  CHECK_FALSE(epoch_0 == epoch_1);
  at::manual_seed(3);
  auto same = random();
  CHECK(firsts(same, 0) == epoch_0);
  // As a run resumes at an epoch's end: the loader is made, then the generator's state comes back.
  auto resumed = random();
  generator.set_state(state);
  CHECK(firsts(resumed, 1) == epoch_1);
}
