#include "flowmatch/monitor/pace.hpp"

#include <chrono>
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
