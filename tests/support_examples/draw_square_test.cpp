#include <set>

#include "examples/draw_square/drawing.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/ode/runge_kutta.hpp"
#include "flowmatch/sample/sampler.hpp"
#include "tests/support/test.hpp"

using namespace draw_square;

namespace {

/// The blog post's algorithm as it stands: each step adds -1 to the pixels that it paints.
/// [6, size, size].
at::Tensor posts_pages(std::int64_t size, const Square& s) {
  at::Tensor page = at::ones({size, size});
  std::vector<at::Tensor> pages = {page.clone()};
  for (int step = 1; step <= 5; ++step) {
    at::Tensor change = at::zeros({size, size});
    const auto rows = [&] { return change.slice(0, s.row, s.row + s.side); };
    if (step == 1) change[s.row].slice(0, s.column, s.column + s.side).fill_(-1);
    if (step == 2) rows().select(1, s.column + s.side).fill_(-1);
    if (step == 3) change[s.row + s.side].slice(0, s.column, s.column + s.side).fill_(-1);
    if (step == 4) rows().select(1, s.column).fill_(-1);
    if (step == 5) rows().slice(1, s.column, s.column + s.side).fill_(-1);
    page += change;
    pages.push_back(page.clone());
  }
  return at::stack(pages);
}

/// All pages [steps + 1, C, H, W] on the way from a page [C, H, W].
template <class Velocity>
at::Tensor pages_of(const Velocity& v, const at::Tensor& page, std::int64_t steps) {
  return fm::Sampler(v, fm::ode::Euler{}, fm::TimeGrid::uniform(steps))
      .trajectory(page.unsqueeze(0))
      .squeeze(1);
}

}  // namespace

TEST_CASE("draw_square: five Euler steps make the pages of the post") {
  fm::Rng rng(1);
  for (const std::int64_t size : {8, 32, 33, 100}) {
    const Square square = random_square(size, rng);
    const at::Tensor pages = pages_of(square_drawing(size, square), at::ones({1, size, size}), 5);
    const at::Tensor expected = posts_pages(size, square).clamp(0, 1);
    REQUIRE(close(pages.squeeze(1), expected, 0, 1e-7));
  }
}

TEST_CASE("draw_square: pixels stay in range where the post leaves it") {
  const Square square{3, 4, 5};
  REQUIRE(posts_pages(16, square).min().item<float>() == -2);
  const at::Tensor pages = pages_of(square_drawing(16, square), at::ones({1, 16, 16}), 5);
  REQUIRE(pages.min().item<float>() > -1e-7F);
  REQUIRE(pages.max().item<float>() == 1);
}

TEST_CASE("draw_square: squares lie on the page and their sides take every length of the post") {
  fm::Rng rng(2);
  std::set<std::int64_t> sides;
  for (int i = 0; i < 300; ++i) {
    const Square s = random_square(16, rng);
    sides.insert(s.side);
    REQUIRE(s.row >= 0);
    REQUIRE(s.column >= 0);
    REQUIRE(s.row + s.side < 16);
    REQUIRE(s.column + s.side < 16);
  }
  REQUIRE(sides == std::set<std::int64_t>{4, 5, 6, 7, 8});
}

TEST_CASE("draw_square: sizes out of range are refused") {
  fm::Rng rng(3);
  require_error<fm::OptionError>([&] { random_square(7, rng); }, "--size is 7; choose 8 to 256");
  require_error<fm::OptionError>([&] { random_square(257, rng); }, "257");
}

TEST_CASE("draw_square: the four ORGB steps share no pixel and end in the picture") {
  const StepwiseDrawing orgb = orgb_drawing(48);
  REQUIRE(orgb.steps.size() == 4);
  at::Tensor painted = at::zeros({48, 48}, at::kLong);
  for (const at::Tensor& step : orgb.steps) {
    REQUIRE(step.any().item<bool>());
    painted += step;
  }
  REQUIRE(painted.eq(1).all().item<bool>());
  const at::Tensor pages = pages_of(orgb, at::ones({3, 48, 48}), 4);
  REQUIRE(close(pages[4], orgb.picture, 0, 1e-6));
  // After the outline a page is black and white; after red, nothing blue or green has come.
  REQUIRE(at::logical_or(pages[1] == 0, pages[1] == 1).all().item<bool>());
  REQUIRE(pages[2].masked_select(orgb.steps[2]).eq(1).all().item<bool>());
}

TEST_CASE("draw_square: the straight drawing is the straight path at every step") {
  fm::Rng rng(5);
  const at::Tensor x_0 = rng.normal({3, 8, 8}, at::kDouble);
  const at::Tensor x_1 = rng.uniform({3, 8, 8}, at::kDouble);
  const at::Tensor pages = pages_of(StraightDrawing{x_1}, x_0, 10);
  for (std::int64_t i = 0; i <= 10; ++i) {
    const double t = static_cast<double>(i) / 10;
    REQUIRE(close(pages[i], (1 - t) * x_0 + t * x_1, 0, 1e-12));
  }
}
