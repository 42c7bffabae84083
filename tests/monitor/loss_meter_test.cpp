#include "flowmatch/monitor/loss_meter.hpp"

#include <cmath>
#include <limits>

#include "tests/support/test.hpp"

TEST_CASE("loss_meter: the mean of what is finite and NaN of nothing") {
  fm::LossMeter meter;
  REQUIRE(std::isnan(meter.mean()));
  meter.add(torch::tensor(1.5));
  meter.add(torch::tensor(std::numeric_limits<float>::quiet_NaN()));
  meter.add(torch::tensor(std::numeric_limits<double>::infinity()));
  meter.add(torch::tensor(0.25, torch::kDouble));
  REQUIRE(meter.mean() == 0.875);
  meter.add(torch::tensor(0.875));
  REQUIRE(meter.mean() == 0.875);
  meter.reset();
  REQUIRE(std::isnan(meter.mean()));
}
