#include "tests/ode/conformance.hpp"

#include "tests/support/test_std.hpp"

namespace {

void check(const char* name) {
  for (const char* problem : conformance::problems) {
    for (const bool reverse : {false, true}) {
      INFO(name << " on " << problem << (reverse ? " in reverse" : ""));
      conformance::ode::with_method(name, [&](auto method) {
        if (!conformance::ode::ErrorStepper<decltype(method), std::vector<double>> &&
            std::string(problem) != "constant")
          return;
        const double allowed = conformance::allowed(name, problem);
        CHECK(conformance::largest_error<double>(method, problem, reverse) < allowed);
        CHECK(conformance::largest_error<float>(method, problem, reverse) < allowed);
      });
    }
  }
}

}  // namespace

TEST_CASE("conformance: fixed-step methods solve torchdiffeq's constant problem") {
  for (const char* name : {"euler", "midpoint", "heun2", "heun3", "rk4", "rk4_classic",
                           "explicit_adams", "implicit_adams"})
    check(name);
}
TEST_CASE("conformance: adaptive_heun solves torchdiffeq's problems") { check("adaptive_heun"); }
TEST_CASE("conformance: fehlberg2 solves torchdiffeq's problems") { check("fehlberg2"); }
TEST_CASE("conformance: bosh3 solves torchdiffeq's problems") { check("bosh3"); }
TEST_CASE("conformance: tsit5 solves torchdiffeq's problems") { check("tsit5"); }
TEST_CASE("conformance: dopri5 solves torchdiffeq's problems") { check("dopri5"); }
TEST_CASE("conformance: dopri8 solves torchdiffeq's problems") { check("dopri8"); }
