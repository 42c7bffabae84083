#include "flowmatch/data/batch_source.hpp"

#include <cstddef>
#include <optional>
#include <vector>

#include "tests/support/test.hpp"

namespace {

struct Minimal {
  using condition_type = fm::NoCondition;
  std::int64_t batches_per_epoch() { return 1; }
  void start_epoch(std::int64_t) {}
  std::optional<fm::Batch<>> next() { return std::nullopt; }
};
struct Restartable : Minimal {
  void start_epoch(std::int64_t, std::int64_t = 0) {}
  std::string fingerprint() const { return ""; }
};
struct WithoutFingerprint : Minimal {
  void start_epoch(std::int64_t, std::int64_t = 0) {}
};
struct WithoutCondition {
  std::int64_t batches_per_epoch() { return 1; }
  void start_epoch(std::int64_t) {}
  std::optional<fm::Batch<>> next() { return std::nullopt; }
};
struct OtherCondition : Minimal {
  using condition_type = at::Tensor;
};
struct BareBatch : Minimal {
  fm::Batch<> next() { return {}; }
};

}  // namespace

TEST_CASE("source: the concepts of data tell restartable sources from plain ones") {
  static_assert(fm::BatchSource<Minimal> && !fm::RestartableSource<Minimal>);
  static_assert(fm::BatchSource<Restartable> && fm::RestartableSource<Restartable>);
  static_assert(fm::BatchSource<WithoutFingerprint> && !fm::RestartableSource<WithoutFingerprint>);
  static_assert(!fm::BatchSource<WithoutCondition>);
  static_assert(!fm::BatchSource<OtherCondition>);
  static_assert(!fm::BatchSource<BareBatch>);
  static_assert(!fm::BatchSource<at::Tensor>);
}

TEST_CASE("source: an epoch starts wherever the source can") {
  struct Remembers : Minimal {
    void start_epoch(std::int64_t e, std::int64_t b = 0) {
      epoch = e;
      batch = b;
    }
    std::string fingerprint() const { return ""; }
    std::int64_t epoch = -1, batch = -1;
  } restartable;
  fm::start_at(restartable, 3, 2);
  REQUIRE(restartable.epoch == 3);
  REQUIRE(restartable.batch == 2);
  Minimal plain;
  REQUIRE_NOTHROW(fm::start_at(plain, 3, 0));
  require_error<fm::OptionError>([&] { fm::start_at(plain, 3, 2); }, "cannot start in mid-epoch");
}

TEST_CASE("source: one that ends early is found out") {
  Minimal plain;
  require_error<fm::DataError>([&] { fm::next_batch(plain, 0); }, "ended after 0 batches of 1");
}

TEST_CASE("source: batches without samples are told from those that are none of samples") {
  struct Listed : Minimal {
    std::vector<at::Tensor> all;
    std::size_t given = 0;
    std::optional<fm::Batch<>> next() {
      if (given == all.size()) return std::nullopt;
      return fm::Batch<>{all[given++]};
    }
  };
  const at::Tensor none = on_device::zeros({0, 2});
  Listed source{{}, {none, none, on_device::ones({3, 2}), none}};
  const auto batch = fm::next_with_samples(source);
  REQUIRE(batch.has_value());
  REQUIRE(batch->x_1.size(0) == 3);
  REQUIRE_FALSE(fm::next_with_samples(source).has_value());
  Listed empty{{}, {none}};
  require_error<fm::DataError>([&] { fm::next_batch(empty, 4); }, "batch 4 of the source has no");
  for (const at::Tensor& bad : {at::Tensor(), on_device::zeros({})}) {
    Listed other{{}, {bad, bad}};
    require_error<fm::DataError>([&] { fm::next_batch(other, 0); }, "give it [B, …]");
    require_error<fm::DataError>([&] { fm::next_with_samples(other); }, "give it [B, …]");
  }
}
