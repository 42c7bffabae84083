#pragma once

#include <cmath>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

/// The non-stiff test set DETEST (Hull, Enright, Fellen & Sedgwick 1972), t from 0 to 20.
namespace detest {

using Vector = std::vector<double>;

struct Problem {
  std::string name;
  std::function<void(const Vector& y, double t, Vector& dy)> f;
  Vector start;
};

inline Problem chain(std::string name, std::size_t n,
                     std::function<void(const Vector&, double, Vector&)> f) {
  Vector start(n, 0.0);
  start[0] = 1;
  return {std::move(name), std::move(f), std::move(start)};
}

inline void tridiagonal(const Vector& y, double, Vector& d) {
  const std::size_t n = y.size();
  for (std::size_t i = 0; i < n; ++i)
    d[i] = (i > 0 ? y[i - 1] : 0) - 2 * y[i] + (i + 1 < n ? y[i + 1] : 0);
}

/// The outer planets: positions of five bodies, then their velocities.
inline void five_bodies(const Vector& y, double, Vector& d) {
  constexpr double k2 = 2.95912208286, sun = 1.00000597682;
  constexpr double mass[5] = {0.000954786104043, 0.000285583733151, 0.0000437273164546,
                              0.0000517759138449, 0.00000277777777778};
  const auto cube = [](double a, double b, double c) {
    return std::pow(a * a + b * b + c * c, 1.5);
  };
  double r3[5];
  for (std::size_t j = 0; j < 5; ++j) r3[j] = cube(y[3 * j], y[3 * j + 1], y[3 * j + 2]);
  for (std::size_t j = 0; j < 5; ++j) {
    for (std::size_t i = 0; i < 3; ++i) {
      d[3 * j + i] = y[15 + 3 * j + i];
      double sum = -(sun + mass[j]) * y[3 * j + i] / r3[j];
      for (std::size_t k = 0; k < 5; ++k) {
        if (k == j) continue;
        const double apart =
            cube(y[3 * k] - y[3 * j], y[3 * k + 1] - y[3 * j + 1], y[3 * k + 2] - y[3 * j + 2]);
        sum += mass[k] * ((y[3 * k + i] - y[3 * j + i]) / apart - y[3 * k + i] / r3[k]);
      }
      d[15 + 3 * j + i] = k2 * sum;
    }
  }
}

inline Problem orbit(std::string name, double eccentricity) {
  return {std::move(name),
          [](const Vector& y, double, Vector& d) {
            const double r3 = std::pow(y[0] * y[0] + y[1] * y[1], 1.5);
            d = {y[2], y[3], -y[0] / r3, -y[1] / r3};
          },
          {1 - eccentricity, 0, 0, std::sqrt((1 + eccentricity) / (1 - eccentricity))}};
}

inline std::vector<Problem> problems() {
  using V = const Vector&;
  return {{"A1", [](V y, double, Vector& d) { d[0] = -y[0]; }, {1}},
          {"A2", [](V y, double, Vector& d) { d[0] = -y[0] * y[0] * y[0] / 2; }, {1}},
          {"A3", [](V y, double t, Vector& d) { d[0] = y[0] * std::cos(t); }, {1}},
          {"A4", [](V y, double, Vector& d) { d[0] = y[0] / 4 * (1 - y[0] / 20); }, {1}},
          {"A5", [](V y, double t, Vector& d) { d[0] = (y[0] - t) / (y[0] + t); }, {4}},
          {"B1",
           [](V y, double, Vector& d) {
             d = {2 * (y[0] - y[0] * y[1]), -(y[1] - y[0] * y[1])};
           },
           {1, 3}},
          {"B2",
           [](V y, double, Vector& d) {
             d = {-y[0] + y[1], y[0] - 2 * y[1] + y[2], y[1] - y[2]};
           },
           {2, 0, 1}},
          {"B3",
           [](V y, double, Vector& d) {
             d = {-y[0], y[0] - y[1] * y[1], y[1] * y[1]};
           },
           {1, 0, 0}},
          {"B4",
           [](V y, double, Vector& d) {
             const double r = std::hypot(y[0], y[1]);
             d = {-y[1] - y[0] * y[2] / r, y[0] - y[1] * y[2] / r, y[0] / r};
           },
           {3, 0, 0}},
          {"B5",
           [](V y, double, Vector& d) {
             d = {y[1] * y[2], -y[0] * y[2], -0.51 * y[0] * y[1]};
           },
           {0, 1, 1}},
          chain("C1", 10,
                [](V y, double, Vector& d) {
                  for (std::size_t i = 0; i < 10; ++i)
                    d[i] = (i > 0 ? y[i - 1] : 0) - (i < 9 ? y[i] : 0);
                }),
          chain("C2", 10,
                [](V y, double, Vector& d) {
                  for (std::size_t i = 0; i < 10; ++i) {
                    const auto n = static_cast<double>(i);
                    d[i] = (i > 0 ? n * y[i - 1] : 0) - (i < 9 ? (n + 1) * y[i] : 0);
                  }
                }),
          chain("C3", 10, tridiagonal),
          chain("C4", 51, tridiagonal),
          {"C5",
           five_bodies,
           {3.42947415189,   3.35386959711,   1.35494901715,   6.64145542550,   5.97156957878,
            2.18231499728,   11.2630437207,   14.6952576794,   6.27960525067,   -30.1552268759,
            1.65699966404,   1.43785752721,   -21.1238353380,  28.4465098142,   15.3882659679,
            -0.557160570446, 0.505696783289,  0.230578543901,  -0.415570776342, 0.365682722812,
            0.169143213293,  -0.325325669158, 0.189706021964,  0.0877265322780, -0.0240476254170,
            -0.287659532608, -0.117219543175, -0.176860753121, -0.216393453025, -0.0148647893090}},
          orbit("D1", 0.1),
          orbit("D2", 0.3),
          orbit("D3", 0.5),
          orbit("D4", 0.7),
          orbit("D5", 0.9),
          {"E1",
           [](V y, double t, Vector& d) {
             d = {y[1], -(y[1] / (t + 1) + (1 - 0.25 / ((t + 1) * (t + 1))) * y[0])};
           },
           {0.6713967071418030, 0.09540051444747446}},
          {"E2",
           [](V y, double, Vector& d) {
             d = {y[1], (1 - y[0] * y[0]) * y[1] - y[0]};
           },
           {2, 0}},
          {"E3",
           [](V y, double t, Vector& d) {
             d = {y[1], y[0] * y[0] * y[0] / 6 - y[0] + 2 * std::sin(2.78535 * t)};
           },
           {0, 0}},
          {"E4",
           [](V y, double, Vector& d) {
             d = {y[1], 0.032 - 0.4 * y[1] * y[1]};
           },
           {30, 0}},
          {"E5",
           [](V y, double t, Vector& d) {
             d = {y[1], std::sqrt(1 + y[1] * y[1]) / (25 - t)};
           },
           {0, 0}}};
}

}  // namespace detest
