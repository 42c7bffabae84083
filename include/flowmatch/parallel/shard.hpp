#pragma once

#include <ATen/Functions.h>

#include <concepts>
#include <cstdint>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/types.hpp"

namespace flowmatch { inline namespace v0 {

/// @{ Samples [begin, end) of a training example.
template <Condition C>
Noised<C> slice(const Noised<C>& whole, std::int64_t begin, std::int64_t end) {
  const at::Tensor index = at::arange(begin, end, whole.x_t.options().dtype(at::kLong));
  return {whole.x_t.slice(0, begin, end), whole.t.slice(0, begin, end),
          whole.target.slice(0, begin, end),
          condition_traits<C>::index_select(whole.condition, index)};
}
inline PathSample slice(const PathSample& whole, std::int64_t begin, std::int64_t end) {
  const auto part = [&](const at::Tensor& tensor) { return tensor.slice(0, begin, end); };
  return {part(whole.x_0), part(whole.x_1), part(whole.t), part(whole.x_t), part(whole.dx_t)};
}
inline NoisyPathSample slice(const NoisyPathSample& whole, std::int64_t begin, std::int64_t end) {
  return {slice(static_cast<const PathSample&>(whole), begin, end),
          whole.epsilon.slice(0, begin, end), whole.sigma_t.slice(0, begin, end)};
}
template <class Sample, Condition C>
NoisedSample<Sample, C> slice(const NoisedSample<Sample, C>& whole, std::int64_t begin,
                              std::int64_t end) {
  return {slice(static_cast<const Noised<C>&>(whole), begin, end), slice(whole.sample, begin, end)};
}
/// @}

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
