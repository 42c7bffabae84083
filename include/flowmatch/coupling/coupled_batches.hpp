#pragma once

#include <ATen/Functions.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/coupling/coupling.hpp"
#include "flowmatch/data/batch_source.hpp"

namespace flowmatch { inline namespace v0 {

/// A source whose batches come paired already, with their x_0: a coupling looks at a pool of
/// several batches at once, which couples better than one batch does. A noisifier takes them with
/// `IndependentCoupling<PairedSource>`:
///
///     fm::Prefetch source(fm::CoupledBatches(std::move(batches), coupling, seed, 4));
///     fm::VelocityNoisifier noisifier(path, fm::IndependentCoupling<fm::PairedSource>{});
///
/// In `Prefetch` it works ahead on a thread of its own, so that no step waits for the coupling.
/// Pairs depend on (seed, epoch, pool) alone: the source stays restartable. Throws OptionError for
/// a pool below 1, DataError where the coupling changes the number of samples.
template <BatchSource Source, class CouplingT>
requires Coupling<CouplingT, typename Source::condition_type>
class CoupledBatches {
 public:
  /// The condition that its batches have.
  using condition_type = typename Source::condition_type;

  /// Couples `pool` batches of `source` (move it in) at a time; `seed` is that of the x_0.
  CoupledBatches(Source source, CouplingT coupling, std::uint64_t seed, std::int64_t pool = 1)
      : source_(std::move(source)), coupling_(std::move(coupling)), rng_(seed), pool_(pool) {
    if (pool < 1) throw OptionError("a pool below 1 batch; choose at least 1");
  }

  /// The source's.
  std::int64_t batches_per_epoch() { return source_.batches_per_epoch(); }

  /// Begins an epoch.
  void start_epoch(std::int64_t epoch) {
    source_.start_epoch(epoch);
    begin(epoch, 0);
  }
  /// Begins an epoch at batch `batch`.
  void start_epoch(std::int64_t epoch, std::int64_t batch) requires RestartableSource<Source> {
    const std::int64_t pools = batch / pool_;
    source_.start_epoch(epoch, pools * pool_);
    begin(epoch, pools);
    for (std::int64_t i = pools * pool_; i < batch; ++i) next();
  }

  /// The next batch of the epoch, with its x_0; none at its end.
  std::optional<Batch<condition_type>> next() {
    if (ready_.empty()) fill();
    if (ready_.empty()) return std::nullopt;
    std::optional batch(std::move(ready_.front()));
    ready_.pop_front();
    return batch;
  }

  /// The source's, with the pool and the seed.
  std::string fingerprint() const requires RestartableSource<Source> {
    return source_.fingerprint() + ", coupled by pools of " + std::to_string(pool_) + ", seed " +
           std::to_string(rng_.seed());
  }

 private:
  void begin(std::int64_t epoch, std::int64_t pools) {
    ready_.clear();
    epoch_ = epoch;
    pools_ = pools;
  }

  void fill() {
    std::vector<at::Tensor> x_0, x_1;
    std::vector<condition_type> conditions;
    for (std::int64_t i = 0; i < pool_; ++i) {
      std::optional<Batch<condition_type>> batch = source_.next();
      if (!batch) break;
      if (batch->x_0.defined()) x_0.push_back(batch->x_0);
      x_1.push_back(batch->x_1);
      conditions.push_back(std::move(batch->condition));
    }
    if (x_1.empty()) return;
    using traits = condition_traits<condition_type>;
    const Batch<condition_type> all{at::cat(x_1), traits::cat(conditions),
                                    x_0.size() == x_1.size() ? at::cat(x_0) : at::Tensor()};
    Rng rng = rng_.fork("epoch", static_cast<std::uint64_t>(epoch_))
                  .fork("pool", static_cast<std::uint64_t>(pools_++));
    const Coupled<condition_type> pairs = coupling_(all, rng);
    if (pairs.x_1.size(0) != all.x_1.size(0)) {
      throw DataError("a coupling made " + std::to_string(pairs.x_1.size(0)) + " pairs of " +
                      std::to_string(all.x_1.size(0)) + " samples; it has to keep their number");
    }
    std::int64_t first = 0;
    for (const at::Tensor& part : x_1) {
      const std::int64_t last = first + part.size(0);
      const at::Tensor index = at::arange(first, last, part.options().dtype(at::kLong));
      ready_.push_back({pairs.x_1.slice(0, first, last),
                        traits::index_select(pairs.condition, index),
                        pairs.x_0.slice(0, first, last)});
      first = last;
    }
  }

  Source source_;
  CouplingT coupling_;
  Rng rng_;
  std::int64_t pool_;
  std::deque<Batch<condition_type>> ready_{};
  std::int64_t epoch_ = 0;
  std::int64_t pools_ = 0;  // of the epoch that were filled
};

}}  // namespace flowmatch
