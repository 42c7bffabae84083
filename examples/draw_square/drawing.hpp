#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/random.hpp"

namespace draw_square {

/// A drawing made in steps, as a velocity that is plain code: during step k = floor(n t) of n it is
/// n times the change that step makes, so that n Euler steps of 1/n make the drawing exactly.
///
/// The blog post paints a pixel black by adding -1, and where two of its steps share a pixel (the
/// left side and the filling lie on the top side's corner) the page goes to -1 or -2. Here a step
/// looks at the page x, as the post's `model(img, step)` could: to paint a pixel it adds what is
/// missing to the colour. So pixels stay in [0, 1], and each page is the post's clamped to it.
struct StepwiseDrawing {
  at::Tensor picture;             ///< what it will look like, [C, H, W]
  std::vector<at::Tensor> steps;  ///< where each step paints, bool [H, W]

  /// x [B, C, H, W], t [B] (the same for all) -> dx/dt [B, C, H, W].
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& t) const {
    const auto n = static_cast<double>(steps.size());
    const double step = std::clamp(std::floor(n * t[0].item<double>()), 0.0, n - 1);
    return n * at::where(steps[static_cast<std::size_t>(step)], picture - x, 0.0);
  }
};

/// A picture's straight path, x_t = (1 - t) x_0 + t x_1, as a velocity: from wherever x is,
/// straight to x_1 so as to be there at t = 1. It is what a perfect network learns from this one
/// picture.
struct StraightDrawing {
  at::Tensor picture;

  at::Tensor operator()(const at::Tensor& x, const at::Tensor& t) const {
    return (picture - x) / (1 - t[0]);
  }
};

/// Where the post's square lies: its top left pixel and the length of its sides.
struct Square {
  std::int64_t row;
  std::int64_t column;
  std::int64_t side;
};

/// The post's choice: a side of 4 to half the page, anywhere on a page of size x size pixels.
inline Square random_square(std::int64_t size, flowmatch::Rng& rng) {
  if (size < 8 || size > 256)
    throw flowmatch::OptionError("--size is " + std::to_string(size) + "; choose 8 to 256");
  const auto up_to = [&](std::int64_t low, std::int64_t high) {  // both ends included
    const double u = rng.uniform({1}, at::kDouble).item<double>();
    return low + static_cast<std::int64_t>(u * static_cast<double>(high - low + 1));
  };
  const std::int64_t side = up_to(4, size / 2);
  const std::int64_t row = up_to(0, size - side - 1);
  return {row, up_to(0, size - side - 1), side};
}

/// The post's five steps: top, right, bottom, left, filling. As there, the outline's bottom right
/// pixel belongs to none of them.
inline StepwiseDrawing square_drawing(std::int64_t size, const Square& square) {
  const auto [row, column, side] = square;
  StepwiseDrawing drawing{at::zeros({1, size, size}), {}};
  const auto paint = [&](std::int64_t r, std::int64_t c, std::int64_t height, std::int64_t width) {
    drawing.steps.push_back(at::zeros({size, size}, at::kBool));
    drawing.steps.back().slice(0, r, r + height).slice(1, c, c + width).fill_(true);
  };
  paint(row, column, 1, side);
  paint(row, column + side, side, 1);
  paint(row + side, column, 1, side);
  paint(row, column, side, 1);
  paint(row, column, side, side);
  return drawing;
}

/// A toucan of size x size pixels and the post's ORGB steps to draw it: its outline, then the parts
/// that are mostly red, blue, green. Colours in [0, 1].
inline StepwiseDrawing orgb_drawing(std::int64_t size) {
  const at::Tensor u = ((at::arange(size, at::kFloat) + 0.5) / size).expand({size, size});
  const at::Tensor v = u.t();
  using Rgb = std::array<float, 3>;
  at::Tensor part = at::zeros({size, size}, at::kLong);
  at::Tensor picture = at::empty({3, size, size});
  const auto paint = [&](const at::Tensor& where, const Rgb& rgb) {
    part.masked_fill_(where, part.max() + 1);
    for (std::int64_t c = 0; c < 3; ++c)
      picture[c].masked_fill_(where, rgb[static_cast<std::size_t>(c)]);
  };
  // An ellipse about (x, y) with half-axes a and b, turned clockwise.
  const auto ellipse = [&](double x, double y, double a, double b, double turn = 0) {
    const double c = std::cos(turn), s = std::sin(turn);
    const at::Tensor along = ((u - x) * c + (v - y) * s) / a;
    const at::Tensor across = ((v - y) * c - (u - x) * s) / b;
    return along.square() + across.square() < 1;
  };
  const Rgb sky{0.80F, 0.92F, 1}, leaf{0.25F, 0.65F, 0.30F}, moss{0.15F, 0.50F, 0.25F};
  const Rgb bark{0.55F, 0.36F, 0.20F}, feathers{0.12F, 0.13F, 0.28F}, ring{0.30F, 0.62F, 0.95F};
  const Rgb throat{1, 0.95F, 0.70F}, orange{1, 0.62F, 0.12F}, crimson{0.88F, 0.22F, 0.15F};
  const Rgb dark{0.16F, 0.10F, 0.08F};

  paint(at::ones({size, size}, at::kBool), sky);
  paint(ellipse(0.13, 0.66, 0.20, 0.07, -0.9), leaf);
  paint(ellipse(0.20, 0.80, 0.17, 0.07, 0.3), moss);
  paint(ellipse(0.84, 0.70, 0.18, 0.07, -0.7), moss);
  paint(ellipse(0.86, 0.91, 0.16, 0.06, 0.3), leaf);
  paint(ellipse(0.26, 0.86, 0.06, 0.18, 0.3), feathers);  // tail
  paint((v - 0.80 + 0.06 * u).abs() < 0.035, bark);
  paint(ellipse(0.38, 0.55, 0.17, 0.27, 0.3), feathers);  // body
  paint(ellipse(0.37, 0.79, 0.05, 0.025), ring);          // feet
  paint(ellipse(0.48, 0.78, 0.05, 0.025), ring);
  paint(ellipse(0.47, 0.28, 0.15, 0.15), feathers);  // head
  paint(ellipse(0.51, 0.42, 0.09, 0.13, 0.35), throat);
  // The beak: between two curves that meet at its tip.
  const at::Tensor s = (u - 0.57) / 0.37;
  const at::Tensor top = 0.20 - 0.06 * at::sin(3.1 * s.clamp(0, 1)) + 0.20 * s * s;
  const at::Tensor bottom = 0.37 + 0.03 * s;
  const at::Tensor beak =
      at::logical_and(at::logical_and(s > 0, s < 1), at::logical_and(v > top, v < bottom));
  paint(beak, orange);
  paint(at::logical_and(beak, v > 0.62 * bottom + 0.38 * top + 0.02), crimson);
  paint(at::logical_and(beak, s > 0.84), dark);
  paint(ellipse(0.49, 0.25, 0.065, 0.065), ring);
  paint(ellipse(0.49, 0.25, 0.03, 0.03), dark);

  // The outline: pixels whose neighbour to the right or below belongs to another part.
  at::Tensor outline = at::zeros({size, size}, at::kBool);
  for (const std::int64_t axis : {0, 1}) {
    const at::Tensor differs = part.slice(axis, 1, size) != part.slice(axis, 0, size - 1);
    outline.slice(axis, 0, size - 1).logical_or_(differs);
  }
  picture.masked_fill_(outline, 0);
  const at::Tensor strongest = picture.argmax(0);
  const at::Tensor inside = outline.logical_not();
  StepwiseDrawing drawing{picture, {outline}};
  for (const std::int64_t channel : {0, 2, 1})  // red, blue, green
    drawing.steps.push_back(at::logical_and(inside, strongest == channel));
  return drawing;
}

}  // namespace draw_square
