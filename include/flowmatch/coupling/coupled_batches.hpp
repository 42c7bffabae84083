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
/// Pairs depend on (seed, epoch, pool) alone: the source stays restartable. A coupling that leaves
/// samples out (`PartialTransportCoupling`) makes all batches of a pool smaller by the same share.
/// Throws OptionError for a pool below 1, DataError where a coupling makes more pairs than there
/// are samples, or so few that a batch would have none.
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
    const std::int64_t samples = all.x_1.size(0), made = pairs.x_1.size(0);
    std::int64_t begin = 0, seen = 0;
    for (const at::Tensor& part : x_1) {
      seen += part.size(0);
      const std::int64_t end = made == samples ? seen : seen * made / samples;
      if (made > samples || (end == begin && part.size(0) > 0)) {
        throw DataError("a coupling made " + std::to_string(made) + " pairs of " +
                        std::to_string(samples) + " samples in " + std::to_string(x_1.size()) +
                        " batches; it has to make no more than there are, and enough for each");
      }
      const at::Tensor index = at::arange(begin, end, part.options().dtype(at::kLong));
      ready_.push_back({pairs.x_1.slice(0, begin, end),
                        traits::index_select(pairs.condition, index),
                        pairs.x_0.slice(0, begin, end)});
      begin = end;
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
