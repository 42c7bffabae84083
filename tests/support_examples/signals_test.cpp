#include "examples/support/signals.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include "flowmatch/core/error.hpp"
#include "tests/support/test.hpp"

namespace {

bool stops_within_a_second(const std::stop_token& token) {
  for (int i = 0; i < 100 && !token.stop_requested(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return token.stop_requested();
}

}  // namespace

TEST_CASE("signals: the first one asks for a stop") {
  for (const int number : {SIGINT, SIGTERM}) {
    const support::StopOnSignal signals;
    REQUIRE_FALSE(signals.token().stop_requested());
    std::raise(number);
    REQUIRE(stops_within_a_second(signals.token()));
  }
}

TEST_CASE("signals: without one there is no stop") {
  std::stop_token token;
  {
    const support::StopOnSignal signals;
    token = signals.token();
  }
  REQUIRE_FALSE(token.stop_requested());
}

TEST_CASE("signals: the second Ctrl-C ends the program with code 130") {
  const pid_t child = fork();
  if (child == 0) {
    const support::StopOnSignal signals;
    std::raise(SIGINT);
    std::raise(SIGINT);
    ::_exit(0);  // not reached
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  REQUIRE(WEXITSTATUS(status) == 130);
}
