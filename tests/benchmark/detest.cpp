// The adaptive methods on DETEST's 25 problems, to run beside torchdiffeq (detest.py):
//   detest [method]        prints problem,tolerance,evaluations,error for 1e-3, 1e-6 and 1e-9
//   detest reference       prints each problem's y(20) to all digits
// The error is the 2-norm of y(20)'s difference to the reference, by dopri8 at 1e-14.

#include "tests/benchmark/detest.hpp"

#include <cstdio>
#include <string>

#include "flowmatch/ode/integrate.hpp"
#include "flowmatch/ode/method.hpp"

namespace ode = flowmatch::ode;
using detest::Vector;

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "dopri5";
  for (const detest::Problem& problem : detest::problems()) {
    Vector reference = problem.start;
    ode::integrate(ode::Dopri8{}, problem.f, reference, 0, 20, {.rtol = 1e-14, .atol = 1e-15});
    if (what == "reference") {
      std::printf("%s", problem.name.c_str());
      for (const double y : reference) std::printf(" %.17g", y);
      std::printf("\n");
      continue;
    }
    ode::with_method(what, [&](auto method) {
      if constexpr (ode::ErrorStepper<decltype(method), Vector>) {
        for (const double tolerance : {1e-3, 1e-6, 1e-9}) {
          Vector y = problem.start;
          const ode::Statistics s =
              ode::integrate(method, problem.f, y, 0, 20, {.rtol = tolerance, .atol = tolerance});
          double square = 0;
          for (std::size_t i = 0; i < y.size(); ++i)
            square += (y[i] - reference[i]) * (y[i] - reference[i]);
          std::printf("%s,%g,%lld,%.3e\n", problem.name.c_str(), tolerance,
                      static_cast<long long>(s.evaluations), std::sqrt(square));
        }
      } else {
        std::printf("%s has no error estimate to choose steps by\n", what.c_str());
      }
    });
  }
}
