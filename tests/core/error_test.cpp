#include "flowmatch/core/error.hpp"

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
