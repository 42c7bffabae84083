// Prints the largest relative errors on torchdiffeq's own test problems as a table in Markdown: of
// forward and reverse the larger one, in float64 and float32.

#include "tests/ode/conformance.hpp"

#include <algorithm>
#include <cstdio>
#include <vector>

int main() {
  std::printf("| method | problem | allowed | float64 | float32 |\n|---|---|---|---|---|\n");
  for (const char* name :
       {"euler", "midpoint", "heun2", "heun3", "rk4", "rk4_classic", "explicit_adams",
        "implicit_adams", "adaptive_heun", "fehlberg2", "bosh3", "tsit5", "dopri5", "dopri8"}) {
    conformance::ode::with_method(name, [&](auto method) {
      for (const char* problem : conformance::problems) {
        if (!conformance::ode::ErrorStepper<decltype(method), std::vector<double>> &&
            problem != conformance::problems[0])
          continue;
        const auto worst = [&]<class T>(T) {
          return std::max(conformance::largest_error<T>(method, problem, false),
                          conformance::largest_error<T>(method, problem, true));
        };
        std::printf("| `%s` | %s | %g | %.1e | %.1e |\n", name, problem,
                    conformance::allowed(name, problem), worst(double{}), worst(float{}));
      }
    });
  }
}
