#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/types.hpp"

namespace flowmatch { inline namespace v0 {

/// Epochs of batches.
/// 1. `condition_type` names the condition; `batches_per_epoch()` is at least 1.
/// 2. `start_epoch(epoch)` begins epoch 0, 1, …; then each `next()` gives a batch, and nullopt at
/// the epoch's end.
template <class S>
concept BatchSource = requires(S& s, std::int64_t n) {
  typename S::condition_type;
  { s.batches_per_epoch() } -> std::convertible_to<std::int64_t>;
  s.start_epoch(n);
  { s.next() } -> std::same_as<std::optional<Batch<typename S::condition_type>>>;
};

/// A source that can start anywhere, so that training resumes in mid-epoch.
/// 1. It is a BatchSource whose epochs depend on a seed and the epoch's number alone.
/// 2. `start_epoch(epoch, batch)` begins at the epoch's given batch, counted from 0.
/// 3. `fingerprint()` tells data, order and batch size apart; a checkpoint keeps it.
template <class S>
concept RestartableSource = BatchSource<S> && requires(S& s, const S& c, std::int64_t n) {
  s.start_epoch(n, n);
  { c.fingerprint() } -> std::convertible_to<std::string>;
};

/// Begins an epoch of a source at a batch, counted from 0. Throws OptionError in mid-epoch for a
/// source that is not restartable.
template <BatchSource S>
void start_at(S& source, std::int64_t epoch, std::int64_t batch) {
  if constexpr (RestartableSource<S>) {
    source.start_epoch(epoch, batch);
  } else if (batch == 0) {
    source.start_epoch(epoch);
  } else {
    throw OptionError(
        "this source cannot start in mid-epoch; resume from a checkpoint at an epoch's end, or "
        "give a RestartableSource");
  }
}

namespace detail {

/// How many samples a batch of a source has. Throws DataError where x_1 is none of samples.
template <class C>
std::int64_t samples_in(const Batch<C>& batch) {
  if (!batch.x_1.defined() || batch.x_1.dim() == 0) {
    throw DataError("a batch of the source has x_1 " + shape_text(batch.x_1) +
                    "; give it [B, …], one entry a sample");
  }
  return batch.x_1.size(0);
}

}  // namespace detail

/// The source's next batch that has samples; none at the epoch's end. Throws DataError for one
/// whose x_1 is none of samples.
template <BatchSource S>
std::optional<Batch<typename S::condition_type>> next_with_samples(S& source) {
  auto batch = source.next();
  while (batch && detail::samples_in(*batch) == 0) batch = source.next();
  return batch;
}

/// The source's next batch after `given` ones. Throws DataError where it has no more, that one has
/// no samples, or its x_1 is none of samples.
template <BatchSource S>
Batch<typename S::condition_type> next_batch(S& source, std::int64_t given) {
  auto batch = source.next();
  if (batch && detail::samples_in(*batch) == 0) {
    throw DataError("batch " + std::to_string(given) +
                    " of the source has no samples; leave such batches out");
  }
  if (batch) return std::move(*batch);
  throw DataError("the source ended after " + std::to_string(given) + " batches of " +
                  std::to_string(source.batches_per_epoch()) +
                  "; make batches_per_epoch() agree with next()");
}

}}  // namespace flowmatch
