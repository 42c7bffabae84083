#pragma once

#include <array>
#include <cstddef>
#include <string_view>

/// Butcher tableaus of explicit Runge–Kutta methods. `a` is the strictly lower triangle, row by
/// row; `c` the nodes, `b` the weights. Names and choices are torchdiffeq's. Methods with an error
/// estimate: embedded_tableau.hpp.

namespace flowmatch { inline namespace v0 { namespace ode {

/// Euler's method.
struct EulerTableau {
  static constexpr std::string_view name = "euler";
  static constexpr int order = 1;
  static constexpr std::array<double, 1> c{0};
  static constexpr std::array<double, 0> a{};
  static constexpr std::array<double, 1> b{1};
};

/// The explicit midpoint rule (Runge 1895).
struct MidpointTableau {
  static constexpr std::string_view name = "midpoint";
  static constexpr int order = 2;
  static constexpr std::array<double, 2> c{0, 1. / 2};
  static constexpr std::array<double, 1> a{1. / 2};
  static constexpr std::array<double, 2> b{0, 1};
};

/// Heun's method of order 2: the explicit trapezoidal rule.
struct Heun2Tableau {
  static constexpr std::string_view name = "heun2";
  static constexpr int order = 2;
  static constexpr std::array<double, 2> c{0, 1};
  static constexpr std::array<double, 1> a{1};
  static constexpr std::array<double, 2> b{1. / 2, 1. / 2};
};

/// Heun's method of order 3 (Hairer, Nørsett & Wanner 1993, table II.1.1).
struct Heun3Tableau {
  static constexpr std::string_view name = "heun3";
  static constexpr int order = 3;
  static constexpr std::array<double, 3> c{0, 1. / 3, 2. / 3};
  static constexpr std::array<double, 3> a{1. / 3, 0, 2. / 3};
  static constexpr std::array<double, 3> b{1. / 4, 0, 3. / 4};
};

/// Kutta's 3/8 rule of order 4 (Hairer, Nørsett & Wanner 1993, table II.1.2).
struct Rk4Tableau {
  static constexpr std::string_view name = "rk4";
  static constexpr int order = 4;
  static constexpr std::array<double, 4> c{0, 1. / 3, 2. / 3, 1};
  static constexpr std::array<double, 6> a{1. / 3, -1. / 3, 1, 1, -1, 1};
  static constexpr std::array<double, 4> b{1. / 8, 3. / 8, 3. / 8, 1. / 8};
};

/// The classical Runge–Kutta method of order 4 (Kutta 1901).
struct Rk4ClassicTableau {
  static constexpr std::string_view name = "rk4_classic";
  static constexpr int order = 4;
  static constexpr std::array<double, 4> c{0, 1. / 2, 1. / 2, 1};
  static constexpr std::array<double, 6> a{1. / 2, 0, 1. / 2, 0, 0, 1};
  static constexpr std::array<double, 4> b{1. / 6, 1. / 3, 1. / 3, 1. / 6};
};

}}}  // namespace flowmatch::ode
