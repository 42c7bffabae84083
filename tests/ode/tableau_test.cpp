#include "flowmatch/ode/tableau.hpp"

#include <vector>

#include "tests/support/test_std.hpp"

namespace ode = flowmatch::ode;

namespace {

using Vector = std::vector<double>;

/// A method's arrays as vectors and full rows.
template <class T>
struct Full {
  Vector c{T::c.begin(), T::c.end()};
  Vector b{T::b.begin(), T::b.end()};
  std::vector<Vector> a;
  Full() {
    std::size_t next = 0;
    for (std::size_t i = 0; i < c.size(); ++i) {
      a.emplace_back(c.size(), 0.0);
      for (std::size_t j = 0; j < i; ++j) a[i][j] = T::a[next++];
    }
    REQUIRE(next == T::a.size());
  }
  Vector times(const Vector& v) const {
    Vector product(v.size(), 0.0);
    for (std::size_t i = 0; i < v.size(); ++i) {
      for (std::size_t j = 0; j < v.size(); ++j) product[i] += a[i][j] * v[j];
    }
    return product;
  }
};

Vector operator*(const Vector& u, const Vector& v) {
  Vector product(u.size());
  for (std::size_t i = 0; i < u.size(); ++i) product[i] = u[i] * v[i];
  return product;
}

double sum(const Vector& b, const Vector& v) {
  double total = 0;
  for (std::size_t i = 0; i < b.size(); ++i) total += b[i] * v[i];
  return total;
}

/// The conditions sum b phi(tree) = 1/gamma(tree) of all 17 rooted trees up to order 5 (Hairer,
/// Nørsett & Wanner 1993, tables II.2.1 and II.2.2), less those beyond `order`.
template <class T>
void check_conditions(const Full<T>& m, const Vector& b, int order) {
  const Vector one(m.c.size(), 1.0);
  const Vector& c = m.c;
  const Vector ac = m.times(c), ac2 = m.times(c * c), aac = m.times(ac);
  struct Condition {
    int order;
    Vector phi;
    double gamma;
  };
  const std::vector<Condition> conditions = {{1, one, 1},
                                             {2, c, 2},
                                             {3, c * c, 3},
                                             {3, ac, 6},
                                             {4, c * c * c, 4},
                                             {4, c * ac, 8},
                                             {4, ac2, 12},
                                             {4, aac, 24},
                                             {5, c * c * c * c, 5},
                                             {5, c * c * ac, 10},
                                             {5, c * ac2, 15},
                                             {5, c * aac, 30},
                                             {5, ac * ac, 20},
                                             {5, m.times(c * c * c), 20},
                                             {5, m.times(c * ac), 40},
                                             {5, m.times(ac2), 60},
                                             {5, m.times(aac), 120}};
  for (const Condition& condition : conditions) {
    if (condition.order > order) continue;
    INFO(T::name << ", order " << condition.order << ", gamma " << condition.gamma);
    CHECK(sum(b, condition.phi) == Approx(1 / condition.gamma).epsilon(1e-13));
  }
}

template <class T>
void check_tableau() {
  const Full<T> m;
  for (std::size_t i = 0; i < m.c.size(); ++i) {
    INFO(T::name << ", row " << i);
    CHECK(sum(m.a[i], Vector(m.c.size(), 1.0)) == Approx(m.c[i]).margin(1e-14));
  }
  check_conditions(m, m.b, T::order);
}

}  // namespace

TEST_CASE("tableau: euler meets its order conditions") { check_tableau<ode::EulerTableau>(); }
TEST_CASE("tableau: midpoint meets its order conditions") { check_tableau<ode::MidpointTableau>(); }
TEST_CASE("tableau: heun2 meets its order conditions") { check_tableau<ode::Heun2Tableau>(); }
TEST_CASE("tableau: heun3 meets its order conditions") { check_tableau<ode::Heun3Tableau>(); }
TEST_CASE("tableau: rk4 meets its order conditions") { check_tableau<ode::Rk4Tableau>(); }
TEST_CASE("tableau: rk4_classic meets its order conditions") {
  check_tableau<ode::Rk4ClassicTableau>();
}
TEST_CASE("tableau: dopri5 meets its order conditions") { check_tableau<ode::Dopri5Tableau>(); }

TEST_CASE("tableau: dopri5 embeds a method of order 4 and ends where the next step begins") {
  using T = ode::Dopri5Tableau;
  const Full<T> m;
  Vector embedded = m.b;
  for (std::size_t i = 0; i < embedded.size(); ++i) embedded[i] -= T::error[i];
  check_conditions(m, embedded, 4);
  for (std::size_t j = 0; j < m.b.size(); ++j) CHECK(m.a.back()[j] == m.b[j]);
}
