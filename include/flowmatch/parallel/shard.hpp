#pragma once

#include <concepts>
#include <cstdint>

#include "flowmatch/core/slice.hpp"

namespace flowmatch { inline namespace v0 {

/// A rank's part of the training example of a whole batch: samples [N rank / size, N (rank + 1) /
/// size) of N, contiguous, each on exactly one rank. Parts differ by one sample where size does not
/// divide N, and are empty where N is smaller than size.
///
/// Every rank draws the batch, the noise and the times as one process alone would, and then takes
/// its part: so all ranks together see what one sees, whatever their number, also where a coupling
/// pairs samples across the batch.
///
/// Of a training example that holds more than a Noised, `slice(example, begin, end)` gives the
/// samples [begin, end). A type of your own needs one to be trained by several ranks; it is found
/// beside the type.
template <class Example>
Example shard(const Example& whole, std::int64_t rank, std::int64_t size) {
  using Part = decltype(slice(whole, rank, rank));
  static_assert(
      std::same_as<Part, Example>,
      "flowmatch: to train on this noisifier's examples by several ranks, write a function "
      "slice(example, begin, end) beside their type; see parallel/shard.hpp");
  if constexpr (std::same_as<Part, Example>) {
    if (size == 1) return whole;
    const std::int64_t n = whole.x_t.size(0);
    return slice(whole, n * rank / size, n * (rank + 1) / size);
  } else {
    return whole;
  }
}

}}  // namespace flowmatch
