#pragma once

#include <array>
#include <string_view>

/// Butcher tableaus with an error estimate: `error` holds b - b_hat, b_hat being the weights of the
/// embedded method of order `error_order`. Where there is one, `dense` holds the polynomials
/// b_i(theta) = sum_p dense[i][p] theta^(p+1) of a continuous extension of order `dense_order`,
/// x(t + theta dt) = x + dt sum_i b_i(theta) k_i. Names and choices are torchdiffeq's.

namespace flowmatch { inline namespace v0 { namespace ode {

/// Heun's method with Euler's as the embedded one.
struct AdaptiveHeunTableau {
  static constexpr std::string_view name = "adaptive_heun";
  static constexpr int order = 2, error_order = 1;
  static constexpr std::array<double, 2> c{0, 1};
  static constexpr std::array<double, 1> a{1};
  static constexpr std::array<double, 2> b{1. / 2, 1. / 2};
  static constexpr std::array<double, 2> error{-1. / 2, 1. / 2};
};

/// Fehlberg's order 2 with an embedded order 1 (Fehlberg 1969, RK1(2), the higher order
/// propagated).
struct Fehlberg2Tableau {
  static constexpr std::string_view name = "fehlberg2";
  static constexpr int order = 2, error_order = 1;
  static constexpr std::array<double, 3> c{0, 1. / 2, 1};
  static constexpr std::array<double, 3> a{1. / 2, 1. / 256, 255. / 256};
  static constexpr std::array<double, 3> b{1. / 512, 255. / 256, 1. / 512};
  static constexpr std::array<double, 3> error{-1. / 512, 0, 1. / 512};
};

/// Order 3 with an embedded order 2, first same as last (Bogacki & Shampine 1989).
struct Bosh3Tableau {
  static constexpr std::string_view name = "bosh3";
  static constexpr int order = 3, error_order = 2;
  static constexpr std::array<double, 4> c{0, 1. / 2, 3. / 4, 1};
  static constexpr std::array<double, 6> a{1. / 2, 0, 3. / 4, 2. / 9, 1. / 3, 4. / 9};
  static constexpr std::array<double, 4> b{2. / 9, 1. / 3, 4. / 9, 0};
  static constexpr std::array<double, 4> error{2. / 9 - 7. / 24, 1. / 3 - 1. / 4, 4. / 9 - 1. / 3,
                                               -1. / 8};
};

/// Order 5 with an embedded order 4 (Dormand & Prince 1980, RK5(4)7M). The last row of `a` is `b`
/// (first same as last). The error weights are Shampine's (1986), 2/3 of the original ones, as
/// torchdiffeq's.
struct Dopri5Tableau {
  static constexpr std::string_view name = "dopri5";
  static constexpr int order = 5, error_order = 4, dense_order = 4;
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
  // Shampine's interpolant (1986), of order 4.
  static constexpr std::array<std::array<double, 4>, 7> dense{
      {{1, -8048581381. / 2820520608, 8663915743. / 2820520608, -12715105075. / 11282082432},
       {},
       {0, 131558114200. / 32700410799, -68118460800. / 10900136933, 87487479700. / 32700410799},
       {0, -1754552775. / 470086768, 14199869525. / 1410260304, -10690763975. / 1880347072},
       {0, 127303824393. / 49829197408, -318862633887. / 49829197408, 701980252875. / 199316789632},
       {0, -282668133. / 205662961, 2019193451. / 616988883, -1453857185. / 822651844},
       {0, 40617522. / 29380423, -110615467. / 29380423, 69997945. / 29380423}}};
};

/// Order 5 with an embedded order 4, first same as last, with smaller error constants than dopri5
/// (Tsitouras 2011).
struct Tsit5Tableau {
  static constexpr std::string_view name = "tsit5";
  static constexpr int order = 5, error_order = 4, dense_order = 4;
  static constexpr std::array<double, 7> c{0, 0.161, 0.327, 0.9, 0.9800255409045097, 1, 1};
  static constexpr std::array<double, 21> a{0.161,  //
                                            -0.008480655492356989,
                                            0.335480655492357,  //
                                            2.8971530571054935,
                                            -6.359448489975075,
                                            4.3622954328695815,  //
                                            5.325864828439257,
                                            -11.748883564062828,
                                            7.4955393428898365,
                                            -0.09249506636175525,  //
                                            5.86145544294642,
                                            -12.92096931784711,
                                            8.159367898576159,
                                            -0.071584973281401,
                                            -0.028269050394068383,  //
                                            0.09646076681806523,
                                            0.01,
                                            0.4798896504144996,
                                            1.379008574103742,
                                            -3.290069515436081,
                                            2.324710524099774};
  static constexpr std::array<double, 7> b{
      0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081,
      2.324710524099774,   0};
  static constexpr std::array<double, 7> error{0.00178001105222577714,
                                               0.0008164344596567469,
                                               -0.007880878010261995,
                                               0.1447110071732629,
                                               -0.5823571654525552,
                                               0.45808210592918697,
                                               -1. / 66};
  static constexpr std::array<std::array<double, 4>, 7> dense{
      {{1, -2.7637061972748258, 2.9132554618219126, -1.0530884977290216},
       {0, 0.1317, -0.2234, 0.1017},
       {0, 3.9302962368947516, -5.9410338721315048, 2.4906272856512528},
       {0, -12.411077166933676, 30.338188630282321, -16.548102889244902},
       {0, 37.509313416511041, -88.178904894766404, 47.379521962819283},
       {0, -27.896526289197286, 65.091894674793664, -34.870657861496611},
       {0, 1.5, -4, 2.5}}};
};

}}}  // namespace flowmatch::ode
