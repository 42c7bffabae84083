#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "examples/support/png.hpp"

namespace support {

using Color = std::array<std::uint8_t, 3>;
inline constexpr Color white{255, 255, 255}, black{0, 0, 0}, grey{150, 150, 150},
    pale{225, 225, 225};
inline constexpr Color blue{31, 95, 180}, orange{221, 120, 20}, green{40, 140, 60},
    red{190, 40, 40};

/// A picture to draw on; what lies outside is cut off. x grows to the right, y downwards.
class Canvas {
 public:
  Canvas(std::int64_t width, std::int64_t height, Color background = white);

  void blend(std::int64_t x, std::int64_t y, Color color, double opacity = 1);
  void fill(std::int64_t x, std::int64_t y, std::int64_t width, std::int64_t height, Color color);
  void line(double x0, double y0, double x1, double y1, Color color, double opacity = 1);
  void dot(double x, double y, double radius, Color color, double opacity = 1);
  /// Letters (as capitals), digits and . , - + = / : ( ) % _ < > ' ! ? # *, each 6 x 8 pixels times
  /// `scale`.
  void text(std::int64_t x, std::int64_t y, std::string_view words, Color color = black,
            std::int64_t scale = 1);
  static std::int64_t text_width(std::string_view words, std::int64_t scale = 1);
  /// An image [C, H, W] in [-1, 1], C 1 or 3, each pixel `scale` pixels wide.
  void image(std::int64_t x, std::int64_t y, const at::Tensor& image, std::int64_t scale = 1);

  /// Another picture, its corner at (x, y).
  void place(std::int64_t x, std::int64_t y, const Picture& other);

  const Picture& picture() const noexcept { return picture_; }

 private:
  Picture picture_;
};

/// Images [N, C, H, W] in [-1, 1] side by side in rows of `columns`, two pixels apart.
Picture image_grid(const at::Tensor& images, std::int64_t columns, std::int64_t scale = 2);

struct Captioned {
  std::string caption;
  Picture picture;
};

/// Rows of pictures, each under its caption.
Picture sheet(const std::vector<std::vector<Captioned>>& rows);

}  // namespace support
