#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>

#include "flowmatch/core/types.hpp"

namespace flowmatch::inline v0 {

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

}  // namespace flowmatch::inline v0
