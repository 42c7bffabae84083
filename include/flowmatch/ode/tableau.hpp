#pragma once

#include <array>
#include <cstddef>
#include <string_view>

/// Butcher tableaus of explicit Runge–Kutta methods. `a` is the strictly lower triangle, row by
/// row; `c` the nodes, `b` the weights; an embedded method's `error` holds b - b_hat. Names and
/// choices are torchdiffeq's.

namespace flowmatch::inline v0::ode {

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

/// Order 5 with an embedded order 4 (Dormand & Prince 1980, RK5(4)7M). The last row of `a` is `b`
/// (first same as last). The error weights are Shampine's (1986), 2/3 of the original ones, as
/// torchdiffeq's.
struct Dopri5Tableau {
  static constexpr std::string_view name = "dopri5";
  static constexpr int order = 5;
  static constexpr std::array<double, 7> c{0, 1. / 5, 3. / 10, 4. / 5, 8. / 9, 1, 1};
  static constexpr std::array<double, 21> a{1. / 5,                   //
                                            3. / 40,        9. / 40,  //
                                            44. / 45,       -56. / 15,
                                            32. / 9,  //
                                            19372. / 6561,  -25360. / 2187,
                                            64448. / 6561,  -212. / 729,  //
                                            9017. / 3168,   -355. / 33,
                                            46732. / 5247,  49. / 176,
                                            -5103. / 18656,  //
                                            35. / 384,      0,
                                            500. / 1113,    125. / 192,
                                            -2187. / 6784,  11. / 84};
  static constexpr std::array<double, 7> b{35. / 384, 0, 500. / 1113, 125. / 192, -2187. / 6784,
                                           11. / 84,  0};
  static constexpr std::array<double, 7> error{35. / 384 - 1951. / 21600,
                                               0,
                                               500. / 1113 - 22642. / 50085,
                                               125. / 192 - 451. / 720,
                                               -2187. / 6784 + 12231. / 42400,
                                               11. / 84 - 649. / 6300,
                                               -1. / 60};
};

}  // namespace flowmatch::inline v0::ode
