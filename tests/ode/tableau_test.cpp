#include "flowmatch/ode/tableau.hpp"

#include "tests/ode/order_conditions.hpp"

namespace ode = flowmatch::ode;

using order_conditions::check_tableau;

TEST_CASE("tableau: euler meets its order conditions") { check_tableau<ode::EulerTableau>(); }
TEST_CASE("tableau: midpoint meets its order conditions") { check_tableau<ode::MidpointTableau>(); }
TEST_CASE("tableau: heun2 meets its order conditions") { check_tableau<ode::Heun2Tableau>(); }
TEST_CASE("tableau: heun3 meets its order conditions") { check_tableau<ode::Heun3Tableau>(); }
TEST_CASE("tableau: rk4 meets its order conditions") { check_tableau<ode::Rk4Tableau>(); }
TEST_CASE("tableau: rk4_classic meets its order conditions") {
  check_tableau<ode::Rk4ClassicTableau>();
}
