#pragma once

#include <cstddef>
#include <cstdint>

#include "examples/support/picture.hpp"

/// The colour of a picture at (x, y).
inline support::Color pixel(const support::Picture& p, std::int64_t x, std::int64_t y) {
  const auto i = static_cast<std::size_t>(3 * (y * p.width + x));
  return {p.rgb[i], p.rgb[i + 1], p.rgb[i + 2]};
}
