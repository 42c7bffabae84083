#include "flowmatch/data/source.hpp"

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
