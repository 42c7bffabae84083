#include "flowmatch/monitor/pace.hpp"

#include <chrono>
#include <cmath>
#include <thread>

#include "tests/support/test.hpp"

TEST_CASE("pace: it counts samples and seconds since it began") {
  fm::Pace pace;
  REQUIRE(pace.samples() == 0);
  pace.add(3);
  pace.add(4);
  REQUIRE(pace.samples() == 7);
  const double before = pace.seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  REQUIRE(pace.seconds() >= before + 0.02);
}

TEST_CASE("pace: samples a second are NaN before any time has passed") {
  fm::Pace pace;
  REQUIRE(std::isnan(pace.samples_per_second(0)));
  REQUIRE(std::isnan(pace.samples_per_second(4)));  // nor before any sample
  pace.add(6);
  REQUIRE(std::isnan(pace.samples_per_second(0)));
  REQUIRE(pace.samples_per_second(4) == 1.5);
}
