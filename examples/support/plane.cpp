#include "examples/support/plane.hpp"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>

#include "flowmatch/core/error.hpp"

namespace support {

Plane::Plane(double limit, std::int64_t size)
    : limit_(limit),
      scale_(static_cast<double>(size - 1) / (2 * limit)),
      canvas_(size, size, pale) {  // the frame
  canvas_.fill(1, 1, size - 2, size - 2, white);
}

at::Tensor Plane::pixels(const at::Tensor& x) const {
  // Up is up; and what lies far outside must not become a line of millions of pixels.
  const at::Tensor flip = at::tensor({1.0, -1.0}, at::kDouble);
  return ((x.detach().to(at::kCPU, at::kDouble) * flip).nan_to_num() + limit_)
      .mul(scale_)
      .clamp(-1e4, 1e4);
}

Plane& Plane::points(const at::Tensor& x, Color color, double opacity) {
  if (x.dim() != 2 || x.size(1) != 2) throw flowmatch::ShapeError("a plane shows points [N, 2]");
  const at::Tensor at_pixels = pixels(x);
  const auto p = at_pixels.accessor<double, 2>();
  for (std::int64_t i = 0; i < p.size(0); ++i) canvas_.dot(p[i][0], p[i][1], 1, color, opacity);
  return *this;
}

Plane& Plane::paths(const at::Tensor& x, Color color) {
  if (x.dim() != 3 || x.size(2) != 2) throw flowmatch::ShapeError("a plane shows paths [T, N, 2]");
  const at::Tensor at_pixels = pixels(x);
  const auto p = at_pixels.accessor<double, 3>();
  for (std::int64_t k = 1; k < p.size(0); ++k) {
    const double t = static_cast<double>(k) / static_cast<double>(p.size(0) - 1);
    Color shade{};
    for (std::size_t c = 0; c < 3; ++c)
      shade[c] = static_cast<std::uint8_t>(std::lround(pale[c] + t * (color[c] - pale[c])));
    for (std::int64_t i = 0; i < p.size(1); ++i)
      canvas_.line(p[k - 1][i][0], p[k - 1][i][1], p[k][i][0], p[k][i][1], shade);
  }
  return *this;
}

Plane& Plane::arrows(const at::Tensor& x, const at::Tensor& vectors, Color color) {
  if (x.dim() != 2 || x.size(1) != 2 || vectors.sizes() != x.sizes())
    throw flowmatch::ShapeError("a plane shows arrows from points [N, 2] along vectors [N, 2]");
  const at::Tensor from = pixels(x);
  const at::Tensor to = pixels(x + vectors);
  const auto a = from.accessor<double, 2>();
  const auto b = to.accessor<double, 2>();
  for (std::int64_t i = 0; i < a.size(0); ++i) {
    const double dx = b[i][0] - a[i][0];
    const double dy = b[i][1] - a[i][1];
    canvas_.line(a[i][0], a[i][1], b[i][0], b[i][1], color);
    canvas_.blend(std::lround(b[i][0]), std::lround(b[i][1]), color);
    const double length = std::hypot(dx, dy);
    if (length < 2) continue;  // a dot: no room for a head
    const double head = std::min(4.0, 0.5 * length) / length;
    for (const double side : {0.5, -0.5}) {
      canvas_.line(b[i][0], b[i][1], b[i][0] - head * (dx + side * dy),
                   b[i][1] - head * (dy - side * dx), color);
    }
  }
  return *this;
}

}  // namespace support
