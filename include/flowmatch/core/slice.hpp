#pragma once

#include <ATen/Functions.h>

#include <cstdint>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/types.hpp"

namespace flowmatch { inline namespace v0 {

/// The conditions of samples [begin, end), which lie on a device.
template <Condition C>
C slice_condition(const C& condition, std::int64_t begin, std::int64_t end, c10::Device device) {
  return condition_traits<C>::index_select(
      condition, at::arange(begin, end, at::TensorOptions(at::kLong).device(device)));
}

/// @{ Samples [begin, end) of a training example.
template <Condition C>
Noised<C> slice(const Noised<C>& whole, std::int64_t begin, std::int64_t end) {
  return {whole.x_t.slice(0, begin, end), whole.t.slice(0, begin, end),
          whole.target.slice(0, begin, end),
          slice_condition(whole.condition, begin, end, whole.x_t.device())};
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
template <Condition C>
TwoTimeNoised<C> slice(const TwoTimeNoised<C>& whole, std::int64_t begin, std::int64_t end) {
  // `apart` is left for r and t to tell: what of it is in the part depends on its values.
  return {slice(static_cast<const Noised<C>&>(whole), begin, end), whole.r.slice(0, begin, end)};
}
template <Condition C>
MatchingNoised<C> slice(const MatchingNoised<C>& whole, std::int64_t begin, std::int64_t end) {
  return {slice(static_cast<const Noised<C>&>(whole), begin, end), whole.noise.slice(0, begin, end),
          whole.look.slice(0, begin, end)};
}
/// @}

}}  // namespace flowmatch
