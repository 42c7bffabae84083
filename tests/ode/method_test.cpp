#include "flowmatch/ode/method.hpp"

#include <set>
#include <string>

#include "tests/support/test_std.hpp"

namespace ode = flowmatch::ode;

TEST_CASE("method: every name finds its method and an unknown one lists them") {
  std::set<std::string> found;
  for (const char* name :
       {"euler", "midpoint", "heun2", "heun3", "rk4", "rk4_classic", "explicit_adams",
        "implicit_adams", "adaptive_heun", "fehlberg2", "bosh3", "tsit5", "dopri5", "dopri8"}) {
    ode::with_method(name, [&](auto method) { found.insert(std::string(method.name)); });
  }
  CHECK(found.size() == 14);
  require_error<flowmatch::OptionError>([] { ode::with_method("rk5", [](auto) {}); },
                                        "fehlberg2, bosh3, tsit5, dopri5, dopri8");
}

TEST_CASE("method: what the visitor returns is returned") {
  CHECK(ode::with_method("heun3", [](auto method) { return int{method.order}; }) == 3);
  CHECK(ode::with_method("dopri5", [](auto method) { return int{method.stages}; }) == 6);
  require_error<flowmatch::OptionError>([] { ode::with_method("", [](auto) {}); },
                                        "there is no method ''");
}
