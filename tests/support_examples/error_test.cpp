// run_main: what each kind of failure says and which exit code it gives.

#include <set>
#include <sstream>
#include <stdexcept>

#include "examples/support/run_main.hpp"
#include "tests/support/test.hpp"

namespace {

struct Outcome {
  int code;
  std::string message;
};

// Swaps std::cerr and std::cout for the time of a run.
template <class Body>
Outcome run(Body body, std::vector<std::string> arguments = {}) {
  CLI::App app("A test", "program");
  int n = 0;
  app.add_option("--n", n, "a number");
  arguments.insert(arguments.begin(), "program");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  std::ostringstream text;
  std::streambuf* const cerr = std::cerr.rdbuf(text.rdbuf());
  std::streambuf* const cout = std::cout.rdbuf(text.rdbuf());
  const int code = support::run_main(app, static_cast<int>(argv.size()), argv.data(), body);
  std::cerr.rdbuf(cerr);
  std::cout.rdbuf(cout);
  return {code, text.str()};
}

template <class Error>
Outcome run_throwing(const Error& error) {
  return run([&]() -> int { throw error; });
}

}  // namespace

TEST_CASE("error: a body's own code comes through") {
  REQUIRE(run([] { return 0; }).code == 0);
  REQUIRE(run([] { return 130; }).code == 130);
}

TEST_CASE("error: each kind of failure has its exit code and its message on one line") {
  REQUIRE(run_throwing(fm::OptionError("x")).code == support::usage);
  REQUIRE(run_throwing(fm::DataError("x")).code == support::bad_data);
  REQUIRE(run_throwing(fm::CheckpointError("x")).code == support::bad_checkpoint);
  REQUIRE(run_throwing(fm::SolverError("x", 0, 0, 0)).code == support::solver_failed);
  REQUIRE(run_throwing(fm::TrainingError("x", 3)).code == support::failure);
  REQUIRE(run_throwing(fm::ShapeError("x")).code == support::failure);
  REQUIRE(run_throwing(std::runtime_error("x")).code == support::failure);
  REQUIRE(run_throwing(fm::DataError("the file is short")).message ==
          "program: the file is short\n");
}

TEST_CASE("error: codes lie from 1 to 123 and differ") {
  const std::set<int> codes = {support::failure, support::usage, support::bad_data,
                               support::bad_checkpoint, support::solver_failed};
  REQUIRE(codes.size() == 5);
  REQUIRE(*codes.begin() >= 1);
  REQUIRE(*codes.rbegin() <= 123);
}

TEST_CASE("error: LibTorch's errors lose their backtrace") {
  const Outcome outcome = run([]() -> int {
    return torch::zeros({2, 3}).mm(torch::zeros({2, 3})).numel() > 0;
  });
  REQUIRE(outcome.code == support::failure);
  REQUIRE(outcome.message.find("shapes cannot be multiplied") != std::string::npos);
  REQUIRE(outcome.message.find("frame #") == std::string::npos);
}

TEST_CASE("error: running out of memory says what to make smaller") {
  REQUIRE(run_throwing(std::bad_alloc()).message.find("smaller batch") != std::string::npos);
}

TEST_CASE("error: unknown and unreadable options are usage errors and the body does not run") {
  const auto never = []() -> int { throw std::logic_error("the body ran"); };
  const Outcome unknown = run(never, {"--unknown"});
  REQUIRE(unknown.code == support::usage);
  REQUIRE(unknown.message.find("--unknown") != std::string::npos);
  const Outcome unreadable = run(never, {"--n", "many"});
  REQUIRE(unreadable.code == support::usage);
  REQUIRE(unreadable.message.find("many") != std::string::npos);
}

TEST_CASE("error: help is no error") {
  const Outcome help = run([]() -> int { throw std::logic_error("the body ran"); }, {"--help"});
  REQUIRE(help.code == 0);
  REQUIRE(help.message.find("a number") != std::string::npos);
}
