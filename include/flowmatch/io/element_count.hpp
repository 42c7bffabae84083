#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>

namespace flowmatch { inline namespace v0 {

/// How many elements a tensor of this shape has: the product of its sizes, 1 for a scalar. Nothing
/// where a size is negative or where its bytes or strides, at 8 bytes an element, would not fit 64
/// bits; sizes of 0 count as 1 there, so that (0, 2^62, 2^62) is refused too.
inline std::optional<std::uint64_t> element_count(std::span<const std::int64_t> shape) {
  constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max() / 8;
  std::uint64_t count = 1;
  for (const std::int64_t size : shape) {
    const auto factor = static_cast<std::uint64_t>(std::max<std::int64_t>(size, 1));
    if (size < 0 || count > most / factor) return std::nullopt;
    count *= factor;
  }
  return std::find(shape.begin(), shape.end(), 0) != shape.end() ? 0 : count;
}

}}  // namespace flowmatch
