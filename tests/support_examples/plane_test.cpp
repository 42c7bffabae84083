#include "examples/support/plane.hpp"

#include <cmath>

#include "flowmatch/core/error.hpp"
#include "tests/support/test.hpp"
#include "tests/support_examples/pixel.hpp"

using support::Color;
using support::Picture;
using support::Plane;

TEST_CASE("plane: points have y upwards, and outliers are kept out") {
  const at::Tensor points = torch::tensor({1.0, 1.0, -1.0, 0.0, 1e30, std::nan("")}).view({3, 2});
  const Picture plane = Plane(2, 101).points(points, support::red).picture();
  REQUIRE(pixel(plane, 75, 25) != support::white);
  REQUIRE(pixel(plane, 25, 50) != support::white);
  REQUIRE(pixel(plane, 75, 75) == support::white);
  require_error<fm::ShapeError>(
      [] {
        Plane(1).points(torch::zeros({3, 3}), support::red);
      },
      "[N, 2]");
}

TEST_CASE("plane: paths end in their colour") {
  const at::Tensor paths = torch::tensor({-1.0, 0.0, 0.0, 0.0, 1.0, 0.0}).view({3, 1, 2});
  const Picture plane = Plane(2, 101).paths(paths, support::red).picture();
  REQUIRE(pixel(plane, 60, 50) == support::red);
  REQUIRE(pixel(plane, 30, 50) != support::red);
  REQUIRE(pixel(plane, 30, 50) != support::white);
  REQUIRE(pixel(plane, 10, 50) == support::white);
  require_error<fm::ShapeError>(
      [] {
        Plane(1).paths(torch::zeros({3, 2}), support::red);
      },
      "[T, N, 2]");
}

TEST_CASE("plane: an arrow runs from its point along its vector and has a head at the end") {
  const at::Tensor from = torch::tensor({{-1.0, 0.0}});
  const at::Tensor vector = torch::tensor({{1.0, 0.0}});
  const Picture plane = Plane(2, 101).arrows(from, vector, support::red).picture();
  REQUIRE(pixel(plane, 25, 50) == support::red);
  REQUIRE(pixel(plane, 50, 50) == support::red);
  REQUIRE(pixel(plane, 52, 50) == support::white);
  REQUIRE(pixel(plane, 48, 49) == support::red);  // the head's sides, above and below
  REQUIRE(pixel(plane, 48, 51) == support::red);
  REQUIRE(pixel(plane, 27, 49) == support::white);
  REQUIRE(pixel(plane, 27, 51) == support::white);
}

TEST_CASE("plane: an arrow up points up, and one without length is a dot") {
  const at::Tensor from = torch::tensor({{0.0, 0.0}, {-1.0, -1.0}});
  const at::Tensor vectors = torch::tensor({{0.0, 1.0}, {0.0, 0.0}});
  const Picture plane = Plane(2, 101).arrows(from, vectors, support::red).picture();
  REQUIRE(pixel(plane, 50, 25) == support::red);
  REQUIRE(pixel(plane, 50, 75) == support::white);
  REQUIRE(pixel(plane, 25, 75) == support::red);
  REQUIRE(pixel(plane, 26, 75) == support::white);
  require_error<fm::ShapeError>(
      [&] {
        Plane(1).arrows(from, torch::zeros({3, 2}), support::red);
      },
      "along vectors");
}

TEST_CASE("plane: what is drawn later lies above") {
  const at::Tensor points = torch::zeros({1, 2});
  const Picture plane =
      Plane(2, 101).points(points, support::red, 1).points(points, support::blue, 1).picture();
  REQUIRE(pixel(plane, 50, 50) == support::blue);
}
