#include "flowmatch/monitor/early_stopping.hpp"

#include <limits>
#include <vector>

#include "tests/support/test.hpp"

namespace {

/// The number of the value, from 1, at which it stops; 0 where it never does.
int stops_at(fm::EarlyStopping stopping, const std::vector<double>& losses) {
  int n = 0;
  for (const double loss : losses) {
    ++n;
    if (stopping(loss) == fm::Next::stop) return n;
  }
  return 0;
}

}  // namespace

TEST_CASE("early_stopping: it stops at the patience-th value in a row without a better one") {
  CHECK(stops_at(fm::EarlyStopping(1), {3, 2, 1, 1}) == 4);
  CHECK(stops_at(fm::EarlyStopping(2), {3, 2, 2, 2}) == 4);
  CHECK(stops_at(fm::EarlyStopping(2), {3, 2, 4, 1.9, 5, 1.8, 3}) == 0);
  CHECK(stops_at(fm::EarlyStopping(3), {1, 2, 3, 4}) == 4);
}

TEST_CASE("early_stopping: a fall of min_delta or less does not count and is not kept") {
  CHECK(stops_at(fm::EarlyStopping(2, 0.5), {3, 2.75, 2.5}) == 3);
  CHECK(stops_at(fm::EarlyStopping(2, 0.5), {3, 2.75, 2.25, 2}) == 0);
  fm::EarlyStopping stopping(2, 0.5);
  CHECK(stopping.best() == infinity);
  stopping(3);
  stopping(2.75);
  CHECK(stopping.best() == 3);
}

TEST_CASE("early_stopping: NaN is never better and spoils nothing") {
  CHECK(stops_at(fm::EarlyStopping(2), {nan_value, nan_value}) == 2);
  CHECK(stops_at(fm::EarlyStopping(2), {nan_value, 1, nan_value, 0.5, nan_value}) == 0);
  CHECK(stops_at(fm::EarlyStopping(1), {infinity}) == 1);
}

TEST_CASE("early_stopping: patience and min_delta out of range are refused") {
  require_error<fm::OptionError>([] { fm::EarlyStopping(0); }, "patience is 0");
  require_error<fm::OptionError>([] { fm::EarlyStopping(1, -1); }, "min_delta is -1");
  require_error<fm::OptionError>([] { fm::EarlyStopping(1, nan_value); }, "min_delta is nan");
  require_error<fm::OptionError>([] { fm::EarlyStopping(1, infinity); }, "min_delta is inf");
}
