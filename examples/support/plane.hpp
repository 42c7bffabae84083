#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "examples/support/picture.hpp"

namespace support {

/// A square window on the plane, from -limit to limit in x and (upwards) y, `size` pixels wide.
/// What is drawn first lies below. Throws flowmatch::ShapeError for tensors of other shapes.
class Plane {
 public:
  explicit Plane(double limit, std::int64_t size = 300);

  /// Points [N, 2] as dots.
  Plane& points(const at::Tensor& x, Color color, double opacity = 0.6);
  /// Paths [T, N, 2] as lines, pale where they begin.
  Plane& paths(const at::Tensor& x, Color color);
  /// Arrows from points [N, 2] along vectors [N, 2], in the plane's units.
  Plane& arrows(const at::Tensor& x, const at::Tensor& vectors, Color color);

  const Picture& picture() const noexcept { return canvas_.picture(); }

 private:
  at::Tensor pixels(const at::Tensor& x) const;

  double limit_;
  double scale_;
  Canvas canvas_;
};

}  // namespace support
