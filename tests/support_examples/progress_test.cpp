#include "examples/support/progress.hpp"

#include <algorithm>
#include <sstream>
#include <thread>

#include "tests/support/test.hpp"

namespace {

std::int64_t lines(const std::ostringstream& out) {
  const std::string text = out.str();
  return std::count(text.begin(), text.end(), '\n');
}

}  // namespace

TEST_CASE("progress: elsewhere than on a terminal the first and the last step get a plain line") {
  std::ostringstream out;
  support::StepProgress progress("sampling", out, false);
  for (std::int64_t step = 1; step <= 100; ++step) progress.show(step, 100);
  REQUIRE(lines(out) == 2);
  REQUIRE(out.str().find("sampling  step 1/100") == 0);
  REQUIRE(out.str().find("sampling  step 100/100  0:00 in all") != std::string::npos);
  REQUIRE(out.str().find('\r') == std::string::npos);
  REQUIRE(out.str().find('\x1b') == std::string::npos);
}

TEST_CASE("progress: on a terminal one line redraws itself and ends with the work") {
  std::ostringstream out;
  support::StepProgress progress("sampling", out, true);
  progress.show(1, 2);
  REQUIRE(lines(out) == 0);
  REQUIRE(out.str().front() == '\r');
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  progress.show(2, 2);
  REQUIRE(lines(out) == 1);
}

TEST_CASE("progress: work that stops on the way leaves no open line") {
  std::ostringstream out;
  { support::StepProgress("sampling", out, true).show(1, 2); }
  REQUIRE(lines(out) == 1);
}

TEST_CASE("progress: an unknown total and nothing done yet are fine") {
  std::ostringstream out;
  support::StepProgress("solving", out, false).show(3, 0);
  REQUIRE(out.str() == "solving  step 3\n");
  std::ostringstream none;
  support::StepProgress("solving", none, false).show(0, 5);
  REQUIRE(none.str() == "solving  step 0/5\n");
}
