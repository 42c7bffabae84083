#include "flowmatch/core/error.hpp"

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/test.hpp"

TEST_CASE("error: every type is an Error and keeps its message") {
  static_assert(std::is_base_of_v<std::runtime_error, fm::Error>);
  static_assert(std::is_base_of_v<fm::Error, fm::ShapeError>);
  static_assert(std::is_base_of_v<fm::Error, fm::OptionError>);
  static_assert(std::is_base_of_v<fm::Error, fm::DataError>);
  static_assert(std::is_base_of_v<fm::Error, fm::CheckpointError>);
  static_assert(std::is_base_of_v<fm::Error, fm::TrainingError>);
  static_assert(std::is_base_of_v<fm::Error, fm::SolverError>);
  static_assert(!std::is_base_of_v<fm::DataError, fm::CheckpointError>);
  require_error<fm::Error>([] { throw fm::ShapeError("of shape [2]"); }, "of shape [2]");
  require_error<fm::Error>([] { throw fm::TrainingError("loss is NaN", 3); }, "loss is NaN");
  require_error<fm::Error>([] { throw fm::SolverError("step underflow", 0.5, 1e-9, 12); },
                           "step underflow");
}

TEST_CASE("error: TrainingError and SolverError carry where they happened") {
  CHECK(fm::TrainingError("", 41).step() == 41);
  const fm::SolverError error("", 0.25, 1e-3, 77);
  CHECK(error.t() == 0.25);
  CHECK(error.step_size() == 1e-3);
  CHECK(error.evaluations() == 77);
}

TEST_CASE("error: numbers and texts as people write them") {
  const std::vector<std::pair<double, std::string>> numbers = {
      {0.25, "0.25"},
      {1, "1"},
      {100000, "100000"},
      {123456.5, "123456.5"},
      {0.0001, "0.0001"},
      {1e-5, "1e-05"},
      {-2e-300, "-2e-300"},
      {1e16, "1e+16"},
      {9e15, "9000000000000000"},
      {0.1 + 0.2, "0.30000000000000004"},
      {0, "0"},
      {-0.0, "-0"},
      {std::numeric_limits<double>::infinity(), "inf"},
      {-std::numeric_limits<double>::infinity(), "-inf"},
      {1.7976931348623157e308, "1.7976931348623157e+308"}};
  for (const auto& [number, text] : numbers) CHECK(fm::number_text(number) == text);
  CHECK(fm::number_text(std::numeric_limits<double>::quiet_NaN()) == "nan");
  const std::string name = "rate";
  CHECK(fm::text_of(name, " ", 0.5, " of ", std::int64_t{-3}, ", ", std::size_t{7}, name.c_str()) ==
        "rate 0.5 of -3, 7rate");
}
