#include "flowmatch/ode/embedded_tableau.hpp"

#include <cmath>
#include <numeric>
#include <vector>

#include "flowmatch/ode/dopri8_tableau.hpp"
#include "tests/ode/order_conditions.hpp"

namespace ode = flowmatch::ode;
using namespace order_conditions;

namespace {

/// The method, the one embedded in it, and the continuous extension, each of its own order.
template <class T>
void check_embedded() {
  check_tableau<T>();
  const Full<T> m;
  Vector embedded = m.b;
  double largest = 0;
  for (std::size_t i = 0; i < embedded.size(); ++i) {
    embedded[i] -= T::error[i];
    largest = std::max(largest, std::abs(T::error[i]));
  }
  CHECK(largest > 1e-4);
  CHECK(std::accumulate(T::error.begin(), T::error.end(), 0.0) == Approx(0).margin(1e-14));
  check_conditions(m, embedded, T::error_order);
  if constexpr (requires { T::dense; }) {
    for (const double theta : {0.0, 0.25, 0.7, 1.0}) {
      Vector b(m.b.size(), 0.0);
      for (std::size_t i = 0; i < b.size(); ++i) {
        for (std::size_t p = 0; p < T::dense[i].size(); ++p)
          b[i] += T::dense[i][p] * std::pow(theta, p + 1);
        if (theta == 1) CHECK(b[i] == Approx(m.b[i]).margin(1e-11));
      }
      INFO("theta " << theta);
      check_conditions(m, b, T::dense_order, theta, 1e-12);
    }
  }
}

/// The last stage is evaluated at the step's end.
template <class T>
void check_first_same_as_last() {
  const Full<T> m;
  for (std::size_t j = 0; j < m.b.size(); ++j) CHECK(m.a.back()[j] == m.b[j]);
  CHECK(m.c.back() == 1);
}

}  // namespace

TEST_CASE("embedded_tableau: adaptive_heun meets its order conditions") {
  check_embedded<ode::AdaptiveHeunTableau>();
}
TEST_CASE("embedded_tableau: fehlberg2 meets its order conditions") {
  check_embedded<ode::Fehlberg2Tableau>();
}
TEST_CASE("embedded_tableau: bosh3 meets its order conditions") {
  check_embedded<ode::Bosh3Tableau>();
  check_first_same_as_last<ode::Bosh3Tableau>();
}
TEST_CASE("embedded_tableau: dopri5 meets its order conditions") {
  check_embedded<ode::Dopri5Tableau>();
  check_first_same_as_last<ode::Dopri5Tableau>();
}
TEST_CASE("embedded_tableau: tsit5 meets its order conditions") {
  check_embedded<ode::Tsit5Tableau>();
  check_first_same_as_last<ode::Tsit5Tableau>();
}
TEST_CASE("dopri8_tableau: dopri8 meets its order conditions") {
  check_embedded<ode::Dopri8Tableau>();
  check_first_same_as_last<ode::Dopri8Tableau>();
}
