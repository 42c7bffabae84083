#include "examples/support/picture.hpp"

#include <set>

#include "flowmatch/core/error.hpp"
#include "tests/support/test.hpp"
#include "tests/support_examples/pixel.hpp"

using support::Canvas;
using support::Color;
using support::Picture;

namespace {

std::int64_t count(const Picture& p, Color color) {
  std::int64_t n = 0;
  for (std::int64_t y = 0; y < p.height; ++y) {
    for (std::int64_t x = 0; x < p.width; ++x) n += pixel(p, x, y) == color ? 1 : 0;
  }
  return n;
}

}  // namespace

TEST_CASE("picture: a canvas begins in its background and cuts off what lies outside") {
  Canvas canvas(4, 3);
  REQUIRE(count(canvas.picture(), support::white) == 12);
  canvas.fill(-5, -5, 7, 7, support::red);
  canvas.fill(3, 2, 100, 100, support::blue);
  canvas.blend(4, 0, support::green);
  canvas.blend(0, -1, support::green);
  REQUIRE(count(canvas.picture(), support::red) == 4);
  REQUIRE(pixel(canvas.picture(), 1, 1) == support::red);
  REQUIRE(pixel(canvas.picture(), 3, 2) == support::blue);
  REQUIRE(count(canvas.picture(), support::green) == 0);
}

TEST_CASE("picture: opacity mixes colours") {
  Canvas canvas(1, 1, support::black);
  canvas.blend(0, 0, {200, 100, 50}, 0.5);
  REQUIRE(pixel(canvas.picture(), 0, 0) == Color{100, 50, 25});
}

TEST_CASE("picture: lines join their ends and dots are round") {
  Canvas canvas(20, 20);
  canvas.line(2, 3, 12, 3, support::red);
  REQUIRE(pixel(canvas.picture(), 2, 3) == support::red);
  REQUIRE(pixel(canvas.picture(), 11, 3) == support::red);
  REQUIRE(count(canvas.picture(), support::red) == 10);
  canvas.dot(10, 12, 3, support::blue);
  REQUIRE(pixel(canvas.picture(), 10, 12) == support::blue);
  REQUIRE(pixel(canvas.picture(), 12, 12) == support::blue);
  REQUIRE(pixel(canvas.picture(), 13, 15) == support::white);
}

TEST_CASE("picture: every glyph looks different and small letters are capitals") {
  const std::string characters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ.,-+=/:()%_<>'!?#* ";
  std::set<std::vector<std::uint8_t>> seen;
  for (const char c : characters) {
    Canvas canvas(6, 8);
    canvas.text(0, 0, std::string(1, c));
    REQUIRE((c == ' ') == (count(canvas.picture(), support::black) == 0));
    seen.insert(canvas.picture().rgb);
  }
  REQUIRE(seen.size() == characters.size());
  Canvas small(6, 8), capital(6, 8);
  small.text(0, 0, "q");
  capital.text(0, 0, "Q");
  REQUIRE(small.picture().rgb == capital.picture().rgb);
  REQUIRE(Canvas::text_width("abc", 2) == 36);
}

TEST_CASE("picture: an image maps -1 to black and 1 to white and clamps beyond") {
  Canvas canvas(4, 2);
  const at::Tensor grey = torch::tensor({-1.0F, 1.0F, 5.0F, 0.0F}).reshape({1, 2, 2});
  canvas.image(0, 0, grey);
  REQUIRE(pixel(canvas.picture(), 0, 0) == support::black);
  REQUIRE(pixel(canvas.picture(), 1, 0) == support::white);
  REQUIRE(pixel(canvas.picture(), 0, 1) == support::white);
  REQUIRE(pixel(canvas.picture(), 1, 1) == Color{128, 128, 128});
  canvas.image(2, 0, torch::tensor({1.0F, -1.0F, -1.0F}).reshape({3, 1, 1}), 2);
  REQUIRE(count(canvas.picture(), Color{255, 0, 0}) == 4);
  require_error<fm::ShapeError>([&] { canvas.image(0, 0, torch::zeros({2, 4, 4})); }, "C 1 or 3");
  require_error<fm::ShapeError>([&] { canvas.image(0, 0, torch::zeros({4, 4})); }, "[C, H, W]");
}

TEST_CASE("picture: a grid puts images in rows with gaps and enlarges pixels") {
  const at::Tensor images = torch::ones({5, 1, 4, 3});
  const Picture grid = support::image_grid(images, 3, 2);
  REQUIRE(grid.width == 3 * (3 * 2 + 2) + 2);
  REQUIRE(grid.height == 2 * (4 * 2 + 2) + 2);
  REQUIRE(count(grid, support::white) == 5 * 3 * 4 * 4);
  REQUIRE(pixel(grid, 0, 0) == support::grey);
  REQUIRE(pixel(grid, 8, 2) == support::grey);                             // between the first two
  REQUIRE(pixel(grid, grid.width - 4, grid.height - 4) == support::grey);  // the sixth's place
  REQUIRE(support::image_grid(torch::ones({2, 3, 4, 4}), 10, 1).width == 2 * 6 + 2);
  require_error<fm::ShapeError>([&] { support::image_grid(images[0], 3); }, "[N, C, H, W]");
}

TEST_CASE("picture: a sheet holds all of its rows") {
  const Picture square = Canvas(20, 30, support::red).picture();
  const Picture sheet =
      support::sheet({{{"a", square}, {"a long caption", square}}, {{"b", square}}});
  REQUIRE(count(sheet, support::red) == 3 * 600);
  REQUIRE(count(sheet, support::black) > 0);
}
