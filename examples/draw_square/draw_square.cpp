// How the blog post comes to flow matching, in three strips of pictures:
//   draw_square --out drawing.png
// 1. A square in five steps: its first "model", plain code that says what to change at each step.
// 2. ORGB: outline, red, blue, green. Steps as sharp as the square's, hard for a network to learn.
// 3. The straight path from noise, smooth in t: what flow matching learns.
// All three are velocities dx/dt = v(x, t) that the library's Sampler follows from t = 0 to t = 1.

#include <ATen/TensorOperators.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "examples/draw_square/drawing.hpp"
#include "examples/support/picture.hpp"
#include "examples/support/run_main.hpp"
#include "flowmatch/ode/runge_kutta.hpp"
#include "flowmatch/sample/sampler.hpp"

namespace fm = flowmatch;
using namespace draw_square;
using support::Captioned;

struct Options {
  std::int64_t size = 32;
  std::uint64_t seed = 4;
  std::filesystem::path out = "drawing.png";
};

/// The pages on the way from `page` [C, H, W], an Euler step between two captions. Pixels lie from
/// `low` to 1; a picture is `width` pixels wide.
template <class Velocity>
std::vector<Captioned> strip(const Velocity& v, const at::Tensor& page, double low,
                             std::int64_t width, const std::vector<std::string>& captions) {
  const auto steps = static_cast<std::int64_t>(captions.size()) - 1;
  const at::Tensor pages =
      fm::Sampler(v, fm::ode::Euler{}, fm::TimeGrid::uniform(steps)).trajectory(page.unsqueeze(0));
  std::vector<Captioned> pictures;
  for (std::int64_t i = 0; i <= steps; ++i) {
    const at::Tensor from_minus_one = (pages[i] - low) * (2 / (1 - low)) - 1;
    pictures.push_back({captions[static_cast<std::size_t>(i)],
                        support::image_grid(from_minus_one, 1, width / page.size(2))});
  }
  return pictures;
}

int draw(const Options& o) {
  fm::Rng rng(o.seed);
  const Square square = random_square(o.size, rng);
  const StepwiseDrawing orgb = orgb_drawing(3 * o.size);
  const at::Tensor toucan = orgb.picture * 2 - 1;
  const std::int64_t width = 3 * o.size * std::max<std::int64_t>(64 / o.size, 1);
  support::write_png(
      o.out,
      support::sheet(
          {strip(square_drawing(o.size, square), at::ones({1, o.size, o.size}), 0, width,
                 {"a blank page", "top side", "right side", "bottom side", "left side", "fill in"}),
           strip(orgb, at::ones_like(orgb.picture), 0, width,
                 {"a blank page", "outline", "red", "blue", "green"}),
           // The path is straight: a few steps follow it as well as many.
           strip(StraightDrawing{toucan}, rng.normal(toucan.sizes()), -1, width,
                 {"noise, t = 0", "t = 0.2", "t = 0.4", "t = 0.6", "t = 0.8", "t = 1"})}));
  std::cout << "a square of " << square.side << " pixels at row " << square.row << ", column "
            << square.column << "; wrote " << o.out.string() << '\n';
  return support::success;
}

int main(int argc, char** argv) {
  CLI::App app("Draw a square, a toucan and the straight path, step by step", "draw_square");
  Options o;
  app.add_option("--size", o.size,
                 "width of the square's page in pixels; the toucan's is 3 times it");
  app.add_option("--seed", o.seed, "of the square's place and of the noise");
  app.add_option("--out", o.out, "picture to write");
  return support::run_main(app, argc, argv, [&] { return draw(o); });
}
