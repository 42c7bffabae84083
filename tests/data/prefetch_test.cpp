#include "flowmatch/data/prefetch.hpp"

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "flowmatch/data/tensor_batches.hpp"
#include "tests/support/test.hpp"
#include "tests/train/training.hpp"

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

fm::TensorBatches<at::Tensor> numbers() {
  return fm::TensorBatches(on_device::arange(23, torch::kFloat), on_device::arange(23), 4,
                           {.seed = 8});
}

/// The rest of an epoch as one tensor a batch.
template <class Source>
std::vector<at::Tensor> checked_rest(Source& source) {
  std::vector<at::Tensor> all;
  while (const auto batch = source.next()) {
    CHECK(at::equal(batch->x_1, batch->condition.to(torch::kFloat)));
    all.push_back(batch->x_1);
  }
  CHECK_FALSE(source.next().has_value());
  return all;
}

/// Batches [1] of 0, 1, …; sleeps for each, counts, and may throw at one.
struct Slow {
  using condition_type = fm::NoCondition;
  std::int64_t batches_per_epoch() const { return batches; }
  void start_epoch(std::int64_t epoch) {
    if (epoch < 0) throw std::runtime_error("no epoch");
    position = 0;
  }
  std::optional<fm::Batch<>> next() {
    if (position == throws_at) throw std::runtime_error("no batch");
    if (position == batches) return std::nullopt;
    std::this_thread::sleep_for(pause);
    if (made != nullptr) ++*made;
    gradients = at::GradMode::is_enabled();
    return fm::Batch<>{on_device::full({1}, gradients ? position++ : -1 - position++)};
  }
  std::int64_t batches = 6;
  milliseconds pause{0};
  std::int64_t throws_at = -1;
  std::atomic<int>* made = nullptr;
  std::int64_t position = 0;
  bool gradients = true;
};

template <class Source>
std::int64_t value(Source& source) {
  const auto batch = source.next();
  REQUIRE(batch.has_value());
  return batch->x_1.template item<std::int64_t>();
}

}  // namespace

TEST_CASE("prefetch: batches and their order are the source's wherever it starts") {
  static_assert(fm::RestartableSource<fm::Prefetch<fm::TensorBatches<>>>);
  static_assert(fm::BatchSource<fm::Prefetch<Slow>>);
  static_assert(!fm::RestartableSource<fm::Prefetch<Slow>>);
  fm::TensorBatches plain = numbers();
  for (const int depth : {1, 2, 10}) {
    fm::Prefetch ahead(numbers(), depth);
    CHECK(ahead.batches_per_epoch() == 6);
    CHECK(ahead.fingerprint() == plain.fingerprint());
    CHECK_FALSE(ahead.next().has_value());
    for (const auto& [epoch, batch] :
         std::vector<std::pair<int, int>>{{0, 0}, {1, 2}, {1, 6}, {0, 5}}) {
      plain.start_epoch(epoch, batch);
      ahead.start_epoch(epoch, batch);
      CHECK(training::same_bits(checked_rest(ahead), checked_rest(plain)));
    }
  }
}

TEST_CASE("prefetch: an epoch starts anew in the midst of another one") {
  fm::TensorBatches plain = numbers();
  fm::Prefetch ahead(numbers(), 3);
  plain.start_epoch(4, 1);
  const std::vector<at::Tensor> expected = checked_rest(plain);
  for (int taken = 0; taken < 4; ++taken) {
    ahead.start_epoch(3);
    for (int i = 0; i < taken; ++i) ahead.next();
    ahead.start_epoch(4, 1);
    CHECK(training::same_bits(checked_rest(ahead), expected));
  }
}

TEST_CASE("prefetch: no more than its depth is made ahead") {
  std::atomic<int> made = 0;
  fm::Prefetch source(Slow{.batches = 50, .made = &made}, 3);
  CHECK(made == 0);
  source.start_epoch(0);
  for (int taken = 1; taken <= 5; ++taken) {
    CHECK(value(source) == taken - 1);
    std::this_thread::sleep_for(milliseconds(10));
    CHECK(made <= taken + 3);
  }
  const auto give_up = Clock::now() + std::chrono::seconds(20);
  while (made < 8 && Clock::now() < give_up) std::this_thread::sleep_for(milliseconds(1));
  CHECK(made == 8);
}

TEST_CASE("prefetch: a slow source is hidden behind the work on its batches") {
  const auto seconds_for = [](auto&& source) {
    const auto began = Clock::now();
    source.start_epoch(0);
    while (source.next()) std::this_thread::sleep_for(milliseconds(25));
    return std::chrono::duration<double>(Clock::now() - began).count();
  };
  const Slow slow{.batches = 12, .pause = milliseconds(25)};
  const double plain = seconds_for(Slow(slow));
  const double ahead = seconds_for(fm::Prefetch(slow));
  INFO("plain " << plain << " s, ahead " << ahead << " s");
  CHECK(plain >= 0.6);
  CHECK(ahead < 0.8 * plain);  // 13/24 at best
}

TEST_CASE("prefetch: what the source throws comes after the batches before it") {
  fm::Prefetch source(Slow{.throws_at = 2});
  for (int epoch = 0; epoch < 2; ++epoch) {
    source.start_epoch(epoch);
    CHECK(value(source) == 0);
    CHECK(value(source) == 1);
    require_error<std::runtime_error>([&] { source.next(); }, "no batch");
    require_error<std::runtime_error>([&] { source.next(); }, "no batch");
  }
  require_error<std::runtime_error>([&] { source.start_epoch(-1); }, "no epoch");
  CHECK_FALSE(source.next().has_value());  // what ended the epoch before is over
  fm::Prefetch refusing(numbers());
  require_error<fm::OptionError>([&] { refusing.start_epoch(0, 7); }, "batch 7 of an epoch of 6");
  CHECK_FALSE(refusing.next().has_value());
}

TEST_CASE("prefetch: it ends and moves while batches are in the making") {
  const Slow slow{.batches = 50, .pause = milliseconds(5)};
  fm::Prefetch source(slow);
  source.start_epoch(0);
  CHECK(value(source) == 0);
  fm::Prefetch moved(std::move(source));
  CHECK(value(moved) == 1);
  fm::Prefetch other(slow);
  other.start_epoch(0);
  other = std::move(moved);
  CHECK(value(other) == 2);
}

TEST_CASE("prefetch: its end waits for the batch in the making only") {
  std::atomic<int> made = 0;
  {
    fm::Prefetch source(Slow{.batches = 50, .pause = milliseconds(20), .made = &made}, 40);
    source.start_epoch(0);
    CHECK(value(source) == 0);
  }
  CHECK(made < 20);  // not all that there is room for
}

TEST_CASE("prefetch: batches are made under the caller's gradient mode") {
  fm::Prefetch source(Slow{});
  const at::NoGradGuard no_grad;
  source.start_epoch(0);
  CHECK(value(source) == -1);
}

TEST_CASE("prefetch: training on it resumes in mid-epoch with the bits of training without it") {
  const TemporaryFolder folder;
  const fm::TrainOptions options{.epochs = 2, .checkpoints = folder.path(), .checkpoint_every = 4};
  auto through = training::mlp();
  fm::Trainer(through, training::noisifier(), {.epochs = 2}).fit(training::batches());
  auto cut = training::mlp();
  training::train_until_killed(fm::Trainer(cut, training::noisifier(), options),
                               fm::Prefetch(training::batches()), 5);
  auto resumed = training::mlp(2);
  fm::Trainer trainer(resumed, training::noisifier(), options);
  REQUIRE(trainer.resume());
  REQUIRE(trainer.steps() == 4);
  trainer.fit(fm::Prefetch(training::batches(), 4));
  CHECK(training::same_bits(*resumed, *through));
}

TEST_CASE("prefetch: a depth below 1 is refused") {
  require_error<fm::OptionError>([] { fm::Prefetch(numbers(), 0); }, "prefetch depth of 0");
}

TEST_CASE("prefetch: with a device batches are moved there ahead") {
  const at::Tensor x = on_device::arange(6).to(torch::kFloat).unsqueeze(1);
  fm::Prefetch source(fm::TensorBatches(x, on_device::arange(6), 2, {.shuffle = false}), 2,
                      c10::Device(c10::kMeta));  // the only other device that is always there
  source.start_epoch(0);
  const auto batch = source.next();
  REQUIRE(batch);
  REQUIRE(batch->x_1.is_meta());
  REQUIRE(batch->condition.is_meta());
  REQUIRE(batch->x_1.size(0) == 2);
}

TEST_CASE("prefetch: what is moved ahead holds the same values") {
  const at::Tensor x = torch::arange(6, torch::kFloat).unsqueeze(1);
  fm::Prefetch source(fm::TensorBatches(x, torch::arange(6), 2, {.shuffle = false}), 2,
                      test_device());
  source.start_epoch(0);
  for (std::int64_t i = 0; const auto batch = source.next(); i += 2) {
    CHECK(at::equal(batch->x_1, on_device::arange(i, i + 2, torch::kFloat).unsqueeze(1)));
    CHECK(at::equal(batch->condition, on_device::arange(i, i + 2)));
  }
  CHECK(fm::to_device(x, c10::kCPU).is_same(x));
  CHECK(at::equal(fm::to_device(fm::to_device(x, test_device()), c10::kCPU), x));
}
