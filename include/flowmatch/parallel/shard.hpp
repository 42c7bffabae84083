#pragma once

#include <ATen/Functions.h>

#include <cstdint>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/types.hpp"

namespace flowmatch { inline namespace v0 {

/// A rank's part of the training example of a whole batch: samples [N rank / size, N (rank + 1) /
/// size) of N, contiguous, each on exactly one rank. Parts differ by one sample where size does not
/// divide N, and are empty where N is smaller than size.
///
/// Every rank draws the batch, the noise and the times as one process alone would, and then takes
/// its part: so all ranks together see what one sees, whatever their number, also where a coupling
/// pairs samples across the batch.
template <Condition C>
Noised<C> shard(const Noised<C>& whole, std::int64_t rank, std::int64_t size) {
  if (size == 1) return whole;
  const std::int64_t n = whole.x_t.size(0);
  const std::int64_t begin = n * rank / size;
  const std::int64_t end = n * (rank + 1) / size;
  const at::Tensor index = at::arange(begin, end, whole.x_t.options().dtype(at::kLong));
  return {whole.x_t.slice(0, begin, end), whole.t.slice(0, begin, end),
          whole.target.slice(0, begin, end),
          condition_traits<C>::index_select(whole.condition, index)};
}

}}  // namespace flowmatch
