#pragma once

#include <cmath>
#include <vector>

#include "tests/support/test_std.hpp"

/// What makes a Butcher tableau one of its order.
namespace order_conditions {

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

inline Vector operator*(const Vector& u, const Vector& v) {
  Vector product(u.size());
  for (std::size_t i = 0; i < u.size(); ++i) product[i] = u[i] * v[i];
  return product;
}

inline double sum(const Vector& b, const Vector& v) {
  double total = 0;
  for (std::size_t i = 0; i < b.size(); ++i) total += b[i] * v[i];
  return total;
}

/// The conditions sum b phi(tree) = theta^order / gamma(tree) of all 17 rooted trees up to order 5
/// (Hairer, Nørsett & Wanner 1993, tables II.2.1 and II.2.2) and of the bushy and the next tallest
/// ones above, less those beyond `order`; theta = 1 for a method, less within a step.
template <class T>
void check_conditions(const Full<T>& m, const Vector& b, int order, double theta = 1,
                      double tolerance = 1e-13) {
  const Vector one(m.c.size(), 1.0);
  const Vector& c = m.c;
  const Vector ac = m.times(c), ac2 = m.times(c * c), aac = m.times(ac);
  struct Condition {
    int order;
    Vector phi;
    double gamma;
  };
  std::vector<Condition> conditions = {{1, one, 1},
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
  for (int k = 6; k <= order; ++k) {
    Vector power = one;
    for (int i = 0; i < k - 2; ++i) power = power * c;
    conditions.push_back({k, power * c, static_cast<double>(k)});
    conditions.push_back({k, m.times(power), static_cast<double>(k * (k - 1))});
  }
  for (const Condition& condition : conditions) {
    if (condition.order > order) continue;
    INFO(T::name << ", order " << condition.order << ", gamma " << condition.gamma);
    CHECK(sum(b, condition.phi) ==
          Approx(std::pow(theta, condition.order) / condition.gamma).margin(tolerance));
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

}  // namespace order_conditions
