#include "flowmatch/ode/grid.hpp"

#include <limits>

#include "tests/support/test_std.hpp"

using flowmatch::OptionError;
using flowmatch::ode::TimeGrid;

TEST_CASE("grid: uniform steps tile the interval in both directions") {
  const TimeGrid grid = TimeGrid::uniform(4);
  REQUIRE(grid.steps().size() == 4);
  CHECK(grid.steps()[3].t == 0.75);
  CHECK(grid.steps()[3].dt == 0.25);
  CHECK(grid.contiguous());
  const TimeGrid back = TimeGrid::uniform(3, 1, 0.1);
  CHECK(back.t0() == 1);
  CHECK(back.t1() == 0.1);
  CHECK(back.steps()[2].t + back.steps()[2].dt == Approx(0.1));
  CHECK(back.steps()[0].dt == Approx(-0.3));
}

TEST_CASE("grid: shifted steps shrink towards the end and tile the interval") {
  const TimeGrid grid = TimeGrid::shifted(4, 3, 0, 0.8);
  REQUIRE(grid.steps().size() == 4);
  CHECK(grid.steps()[1].t == Approx(0.8 * 0.5));  // 3/4 / (1 + 2/4)
  CHECK(grid.steps()[2].t == Approx(0.8 * 0.75));
  CHECK(grid.steps()[3].t + grid.steps()[3].dt == Approx(0.8));
  CHECK(grid.t1() == 0.8);
  const TimeGrid fine = TimeGrid::shifted(10000, 3);
  CHECK(fine.steps().front().dt / fine.steps().back().dt == Approx(9).epsilon(0.01));
  const TimeGrid back = TimeGrid::shifted(4, 1.0 / 3).reversed();
  CHECK(back.steps()[0].t + back.steps()[0].dt == Approx(0.5));
}

TEST_CASE("grid: the post's evaluates at linspace with steps of 1/n") {
  const TimeGrid grid = TimeGrid::post(5);
  REQUIRE(grid.steps().size() == 5);
  CHECK(grid.steps()[1].t == 0.25);
  CHECK(grid.steps()[4].t == 1);
  for (const auto& step : grid.steps()) CHECK(step.dt == 0.2);
  CHECK_FALSE(grid.contiguous());
  CHECK(TimeGrid::post(1).steps()[0].t == 0);
}

TEST_CASE("grid: given nodes become steps") {
  const TimeGrid grid = TimeGrid::nodes({0, 0.5, 0.9, 1});
  REQUIRE(grid.steps().size() == 3);
  CHECK(grid.steps()[1].dt == Approx(0.4));
}

TEST_CASE("grid: bad grids are refused with a remedy") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  require_error<OptionError>([] { TimeGrid::uniform(0); }, "choose at least 1");
  require_error<OptionError>([] { TimeGrid::post(-3); }, "-3 steps");
  require_error<OptionError>([] { TimeGrid::shifted(3, 0); }, "shift 0; choose a finite one");
  require_error<OptionError>([nan] { TimeGrid::shifted(3, nan); }, "shift nan");
  require_error<OptionError>([] { TimeGrid::shifted(0, 2); }, "choose at least 1");
  require_error<OptionError>([] { TimeGrid::uniform(3, 1, 1); }, "rise or fall");
  require_error<OptionError>([] { TimeGrid::nodes({0.5}); }, "at least two");
  require_error<OptionError>([] { TimeGrid::nodes({0, 0.5, 0.4}); }, "rise or fall");
  require_error<OptionError>([nan] { TimeGrid::nodes({0, nan, 1}); }, "finite");
}

TEST_CASE("grid: reversed walks the same times back") {
  const TimeGrid grid = TimeGrid::nodes({0, 0.1, 0.5, 1}).reversed();
  REQUIRE(grid.steps().size() == 3);
  CHECK(grid.t0() == 1);
  CHECK(grid.t1() == 0);
  CHECK(grid.steps()[0].dt == -0.5);
  CHECK(grid.steps()[1].t == 0.5);
  CHECK(grid.steps()[2].t == 0.1);
  require_error<flowmatch::OptionError>([] { TimeGrid::post(5).reversed(); }, "TimeGrid::uniform");
}

TEST_CASE("grid: without its last step it ends where that began") {
  const TimeGrid grid = TimeGrid::nodes({0, 0.25, 1}).without_last();
  REQUIRE(grid.steps().size() == 1);
  REQUIRE(grid.t0() == 0);
  REQUIRE(grid.t1() == 0.25);
  require_error<OptionError>([&] { grid.without_last(); }, "at least one step");
}
