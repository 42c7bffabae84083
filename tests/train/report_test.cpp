#include "flowmatch/train/report.hpp"

#include <chrono>
#include <cmath>
#include <thread>

#include "flowmatch/monitor/hooks.hpp"
#include "tests/support/test.hpp"

TEST_CASE("report: it says where the run stands and how fast this call to fit is") {
  const fm::Position position{.step = 7, .epoch = 2, .batch = 1};
  fm::Pace pace;
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  const auto before = fm::report_at<fm::EpochReport>(position, 12, 4, pace);
  CHECK(std::isnan(before.samples_per_second));  // of no sample
  pace.add(8);
  const auto report = fm::report_at<fm::StepReport>(position, 12, 4, pace);
  CHECK(report.step == 7);
  CHECK(report.total_steps == 12);
  CHECK(report.epoch == 2);
  CHECK(report.epochs == 4);
  CHECK(report.seconds >= 0.002);
  CHECK(report.samples_per_second == 8 / report.seconds);
}
