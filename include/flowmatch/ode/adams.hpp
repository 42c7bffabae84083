#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "flowmatch/ode/runge_kutta.hpp"
#include "flowmatch/ode/stepper.hpp"

namespace flowmatch { inline namespace v0 { namespace ode {

namespace detail {

/// Weights on f_n, f_(n-1), … (Hairer, Nørsett & Wanner 1993, table III.1.1).
inline constexpr std::array<std::array<double, 4>, 4> bashforth = {
    {{1, 0, 0, 0},
     {3. / 2, -1. / 2, 0, 0},
     {23. / 12, -16. / 12, 5. / 12, 0},
     {55. / 24, -59. / 24, 37. / 24, -9. / 24}}};
/// Weights on f_(n+1), f_n, … (table III.1.2).
inline constexpr std::array<std::array<double, 4>, 4> moulton = {
    {{1, 0, 0, 0},
     {1. / 2, 1. / 2, 0, 0},
     {5. / 12, 8. / 12, -1. / 12, 0},
     {9. / 24, 19. / 24, -5. / 24, 1. / 24}}};

/// The Runge–Kutta method that makes the first steps, of the same order.
template <int Order>
using Starter = std::conditional_t<
    Order == 1, Euler,
    std::conditional_t<Order == 2, Heun2, std::conditional_t<Order == 3, Heun3, RK4>>>;

/// Brings f(x, t) into w.history as the newest of at most `keep`. Where the step size changed, what
/// came before is forgotten. Returns whether all `keep` are there; if not, a Starter has made the
/// step.
template <int Order, State X, System<X> F>
bool remember_or_start(F& f, Workspace<X>& w, X& x, double t, double dt, std::size_t keep) {
  w.go_on_at(t, dt);
  if (std::abs(dt - w.last_dt) > 1e-9 * std::abs(dt)) w.past = 0;
  w.last_dt = dt;
  if (w.history.size() < keep) {
    w.history.resize(keep);
    for (X& derivative : w.history) state_traits<X>::combine(derivative, x, {}, {});  // its shape
  }
  const bool complete = static_cast<std::size_t>(w.past) + 1 >= keep;
  w.k0_is_current = false;
  if (complete) {
    if (w.k.size() < 2) w.k.resize(2);
    evaluate(f, w, x, t, 0);
  } else {
    Starter<Order>{}.step(f, w, x, t, dt);  // its first stage is f(x, t)
    ++w.past;
  }
  w.t = t + dt;
  std::rotate(w.history.begin(), w.history.end() - 1, w.history.end());
  std::swap(w.history.front(), w.k.front());
  return complete;
}

}  // namespace detail

/// The explicit Adams (Adams–Bashforth) method of an order from 1 to 4: one evaluation a step, from
/// the derivatives at the steps before. The first steps, and those after a change of step size, are
/// made by a Runge–Kutta method of the same order. torchdiffeq's method of this name starts with
/// rk4 and goes on to order 12, and does not notice a change of step size.
template <int Order = 4>
struct ExplicitAdams {
  static_assert(Order >= 1 && Order <= 4, "flowmatch: explicit Adams methods go from order 1 to 4");
  static constexpr std::string_view name = "explicit_adams";  ///< the name that `with_method` knows
  static constexpr int order = Order;                         ///< of its error, globally
  static constexpr int stages = 1;                            ///< evaluations a step

  /// Takes x from t to t + dt; w holds the slopes of earlier steps.
  template <State X, System<X> F>
  void step(F& f, Workspace<X>& w, X& x, double t, double dt) const {
    constexpr std::size_t keep = Order;
    if (!detail::remember_or_start<Order>(f, w, x, t, dt, keep)) return;
    const auto c = detail::scaled<keep>(detail::bashforth[keep - 1].data(), keep, dt);
    state_traits<X>::combine(x, x, c, std::span<const X>(w.history).first(keep));
  }
};

/// The implicit Adams (Adams–Moulton) method of an order from 2 to 4 as predictor and corrector
/// (PECE): the explicit method of one order less predicts, one evaluation there corrects. Two
/// evaluations a step. torchdiffeq's method of this name iterates the corrector up to four times.
template <int Order = 4>
struct ImplicitAdams {
  static_assert(Order >= 2 && Order <= 4, "flowmatch: implicit Adams methods go from order 2 to 4");
  static constexpr std::string_view name = "implicit_adams";  ///< the name that `with_method` knows
  static constexpr int order = Order;                         ///< of its error, globally
  static constexpr int stages = 2;                            ///< evaluations a step

  /// Takes x from t to t + dt; w holds the slopes of earlier steps.
  template <State X, System<X> F>
  void step(F& f, Workspace<X>& w, X& x, double t, double dt) const {
    constexpr std::size_t keep = Order - 1;
    if (!detail::remember_or_start<Order>(f, w, x, t, dt, keep)) return;
    auto c = detail::scaled<keep>(detail::bashforth[keep - 1].data(), keep, dt);
    const std::span<const X> past = std::span<const X>(w.history).first(keep);
    state_traits<X>::combine(w.stage, x, c, past);
    evaluate(f, w, w.stage, t + dt, 1);
    c = detail::scaled<keep>(detail::moulton[keep].data() + 1, keep, dt);
    state_traits<X>::combine(x, x, c, past);
    const double newest[1] = {dt * detail::moulton[keep][0]};
    state_traits<X>::combine(x, x, newest, std::span<const X>(w.k).subspan(1, 1));
  }
};

}}}  // namespace flowmatch::ode
