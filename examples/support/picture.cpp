#include "examples/support/picture.hpp"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "flowmatch/core/error.hpp"

namespace support {

namespace {

// Seven rows of five pixels a glyph, the leftmost pixel in the highest bit.
struct Glyph {
  char character;
  std::array<std::uint8_t, 7> rows;
};
constexpr Glyph glyphs[] = {
    {'0', {14, 17, 19, 21, 25, 17, 14}}, {'1', {4, 12, 4, 4, 4, 4, 14}},
    {'2', {14, 17, 1, 2, 4, 8, 31}},     {'3', {31, 2, 4, 2, 1, 17, 14}},
    {'4', {2, 6, 10, 18, 31, 2, 2}},     {'5', {31, 16, 30, 1, 1, 17, 14}},
    {'6', {6, 8, 16, 30, 17, 17, 14}},   {'7', {31, 1, 2, 4, 8, 8, 8}},
    {'8', {14, 17, 17, 14, 17, 17, 14}}, {'9', {14, 17, 17, 15, 1, 2, 12}},
    {'A', {14, 17, 17, 31, 17, 17, 17}}, {'B', {30, 17, 17, 30, 17, 17, 30}},
    {'C', {14, 17, 16, 16, 16, 17, 14}}, {'D', {28, 18, 17, 17, 17, 18, 28}},
    {'E', {31, 16, 16, 30, 16, 16, 31}}, {'F', {31, 16, 16, 30, 16, 16, 16}},
    {'G', {14, 17, 16, 23, 17, 17, 15}}, {'H', {17, 17, 17, 31, 17, 17, 17}},
    {'I', {14, 4, 4, 4, 4, 4, 14}},      {'J', {7, 2, 2, 2, 2, 18, 12}},
    {'K', {17, 18, 20, 24, 20, 18, 17}}, {'L', {16, 16, 16, 16, 16, 16, 31}},
    {'M', {17, 27, 21, 21, 17, 17, 17}}, {'N', {17, 17, 25, 21, 19, 17, 17}},
    {'O', {14, 17, 17, 17, 17, 17, 14}}, {'P', {30, 17, 17, 30, 16, 16, 16}},
    {'Q', {14, 17, 17, 17, 21, 18, 13}}, {'R', {30, 17, 17, 30, 20, 18, 17}},
    {'S', {15, 16, 16, 14, 1, 1, 30}},   {'T', {31, 4, 4, 4, 4, 4, 4}},
    {'U', {17, 17, 17, 17, 17, 17, 14}}, {'V', {17, 17, 17, 17, 17, 10, 4}},
    {'W', {17, 17, 17, 21, 21, 21, 10}}, {'X', {17, 17, 10, 4, 10, 17, 17}},
    {'Y', {17, 17, 17, 10, 4, 4, 4}},    {'Z', {31, 1, 2, 4, 8, 16, 31}},
    {'.', {0, 0, 0, 0, 0, 12, 12}},      {',', {0, 0, 0, 0, 12, 4, 8}},
    {'-', {0, 0, 0, 31, 0, 0, 0}},       {'+', {0, 4, 4, 31, 4, 4, 0}},
    {'=', {0, 0, 31, 0, 31, 0, 0}},      {'/', {0, 1, 2, 4, 8, 16, 0}},
    {':', {0, 12, 12, 0, 12, 12, 0}},    {'(', {2, 4, 8, 8, 8, 4, 2}},
    {')', {8, 4, 2, 2, 2, 4, 8}},        {'%', {24, 25, 2, 4, 8, 19, 3}},
    {'_', {0, 0, 0, 0, 0, 0, 31}},       {'<', {2, 4, 8, 16, 8, 4, 2}},
    {'>', {8, 4, 2, 1, 2, 4, 8}},        {'\'', {4, 4, 8, 0, 0, 0, 0}},
    {'!', {4, 4, 4, 4, 4, 0, 4}},        {'?', {14, 17, 1, 2, 4, 0, 4}},
    {'#', {10, 10, 31, 10, 31, 10, 10}}, {'*', {0, 4, 21, 14, 21, 4, 0}}};

}  // namespace

Canvas::Canvas(std::int64_t width, std::int64_t height, Color background)
    : picture_{width, height, {}} {
  picture_.rgb.resize(static_cast<std::size_t>(width * height * 3));
  fill(0, 0, width, height, background);
}

void Canvas::blend(std::int64_t x, std::int64_t y, Color color, double opacity) {
  if (x < 0 || y < 0 || x >= picture_.width || y >= picture_.height) return;
  std::uint8_t* pixel = &picture_.rgb[static_cast<std::size_t>((y * picture_.width + x) * 3)];
  for (std::size_t c = 0; c < 3; ++c) {
    pixel[c] = static_cast<std::uint8_t>(std::lround(pixel[c] + opacity * (color[c] - pixel[c])));
  }
}

void Canvas::fill(std::int64_t x, std::int64_t y, std::int64_t width, std::int64_t height,
                  Color color) {
  for (std::int64_t row = y; row < y + height; ++row) {
    for (std::int64_t column = x; column < x + width; ++column) blend(column, row, color);
  }
}

void Canvas::line(double x0, double y0, double x1, double y1, Color color, double opacity) {
  const double length = std::max({std::abs(x1 - x0), std::abs(y1 - y0), 1.0});
  for (double i = 0; i < length; ++i) {
    blend(std::lround(x0 + (x1 - x0) * i / length), std::lround(y0 + (y1 - y0) * i / length), color,
          opacity);
  }
}

void Canvas::dot(double x, double y, double radius, Color color, double opacity) {
  const auto reach = static_cast<std::int64_t>(std::ceil(radius));
  for (std::int64_t dy = -reach; dy <= reach; ++dy) {
    for (std::int64_t dx = -reach; dx <= reach; ++dx) {
      const double covered = std::clamp(
          radius + 0.5 - std::hypot(static_cast<double>(dx), static_cast<double>(dy)), 0.0, 1.0);
      blend(std::lround(x) + dx, std::lround(y) + dy, color, opacity * covered);
    }
  }
}

std::int64_t Canvas::text_width(std::string_view words, std::int64_t scale) {
  return static_cast<std::int64_t>(words.size()) * 6 * scale;
}

void Canvas::text(std::int64_t x, std::int64_t y, std::string_view words, Color color,
                  std::int64_t scale) {
  for (const char character : words) {
    const char capital = static_cast<char>(std::toupper(static_cast<unsigned char>(character)));
    for (const Glyph& glyph : glyphs) {
      if (glyph.character != capital) continue;
      for (std::int64_t row = 0; row < 7; ++row) {
        for (std::int64_t column = 0; column < 5; ++column) {
          if ((glyph.rows[static_cast<std::size_t>(row)] >> (4 - column) & 1) != 0) {
            fill(x + column * scale, y + row * scale, scale, scale, color);
          }
        }
      }
    }
    x += 6 * scale;
  }
}

void Canvas::image(std::int64_t x, std::int64_t y, const at::Tensor& image, std::int64_t scale) {
  if (image.dim() != 3 || (image.size(0) != 1 && image.size(0) != 3)) {
    throw flowmatch::ShapeError("a picture needs images [C, H, W] with C 1 or 3");
  }
  const at::Tensor bytes = ((image.detach().to(at::kCPU, at::kFloat).clamp(-1, 1) + 1) * 127.5)
                               .round()
                               .to(at::kByte)
                               .expand({3, image.size(1), image.size(2)})
                               .contiguous();
  const auto pixel = bytes.accessor<std::uint8_t, 3>();
  for (std::int64_t row = 0; row < image.size(1); ++row) {
    for (std::int64_t column = 0; column < image.size(2); ++column) {
      fill(x + column * scale, y + row * scale, scale, scale,
           {pixel[0][row][column], pixel[1][row][column], pixel[2][row][column]});
    }
  }
}

void Canvas::place(std::int64_t x, std::int64_t y, const Picture& other) {
  for (std::int64_t row = 0; row < other.height; ++row) {
    for (std::int64_t column = 0; column < other.width; ++column) {
      const std::uint8_t* p =
          &other.rgb[static_cast<std::size_t>((row * other.width + column) * 3)];
      blend(x + column, y + row, {p[0], p[1], p[2]});
    }
  }
}

Picture image_grid(const at::Tensor& images, std::int64_t columns, std::int64_t scale) {
  if (images.dim() != 4 || columns < 1)
    throw flowmatch::ShapeError("an image grid needs images [N, C, H, W]");
  constexpr std::int64_t gap = 2;
  const std::int64_t n = images.size(0);
  const std::int64_t rows = std::max<std::int64_t>((n + columns - 1) / columns, 1);
  const std::int64_t height = images.size(2) * scale + gap;
  const std::int64_t width = images.size(3) * scale + gap;
  Canvas canvas(std::min(columns, std::max<std::int64_t>(n, 1)) * width + gap, rows * height + gap,
                grey);
  for (std::int64_t i = 0; i < n; ++i) {
    canvas.image(gap + i % columns * width, gap + i / columns * height, images[i], scale);
  }
  return canvas.picture();
}

Picture sheet(const std::vector<std::vector<Captioned>>& rows) {
  constexpr std::int64_t gap = 8, caption = 18;
  std::int64_t width = 0;
  std::int64_t height = gap;
  std::vector<std::int64_t> heights;
  for (const std::vector<Captioned>& row : rows) {
    std::int64_t right = gap;
    heights.push_back(0);
    for (const Captioned& c : row) {
      right += std::max(c.picture.width, Canvas::text_width(c.caption)) + gap;
      heights.back() = std::max(heights.back(), c.picture.height + caption + gap);
    }
    width = std::max(width, right);
    height += heights.back();
  }
  Canvas canvas(width, height);
  std::int64_t top = gap;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    std::int64_t left = gap;
    for (const Captioned& c : rows[r]) {
      canvas.text(left, top + 4, c.caption);
      canvas.place(left, top + caption, c.picture);
      left += std::max(c.picture.width, Canvas::text_width(c.caption)) + gap;
    }
    top += heights[r];
  }
  return canvas.picture();
}

}  // namespace support
