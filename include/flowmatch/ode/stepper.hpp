#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include "flowmatch/ode/state.hpp"

namespace flowmatch { inline namespace v0 { namespace ode {

/// A stepper's memory between steps: stage derivatives, buffers, the count of evaluations. Reused,
/// so that after the first step nothing is allocated. One workspace serves one solve at a time; a
/// step that does not begin at the time where the last one ended begins another. Where x is changed
/// between two steps at one time, call `forget`.
template <State X>
struct Workspace {
  double t = std::numeric_limits<double>::quiet_NaN();  ///< where x stands
  double end = 0;                                       ///< of the tried step
  std::vector<X> k;                                     ///< stage derivatives
  X stage{};                                            ///< the point that a stage is evaluated at
  X next{};                                             ///< the end of a tried step
  X error{};                                            ///< its estimated error
  bool k0_is_current = false;    ///< k[0] holds f(x, t) already (first same as last)
  bool end_is_current = false;   ///< the derivative at the end of the tried step is known
  std::vector<X> history;        ///< derivatives at earlier steps, newest first (Adams methods)
  std::int64_t past = 0;         ///< how many of them are in use
  std::vector<double> spans;     ///< between them, newest first, in a method's own measure
  double last_dt = 0;            ///< the step that they are apart
  std::int64_t evaluations = 0;  ///< of the right-hand side

  /// What is known of slopes belongs to another solve.
  void forget() {
    k0_is_current = false;
    past = 0;
  }
  /// A step of dt begins at `begin`: forgets where that is not where the last one ended, but for
  /// roundings.
  void go_on_at(double begin, double dt) {
    const double rounding = 4 * std::numeric_limits<double>::epsilon() * std::abs(begin);
    if (!(std::abs(begin - t) <= std::max(1e-9 * std::abs(dt), rounding))) forget();
    t = begin;
  }
};

/// k[i] = f(x, t), counted.
template <State X, System<X> F>
void evaluate(F& f, Workspace<X>& w, const X& x, double t, std::size_t i) {
  ++w.evaluations;
  if constexpr (requires {
                  { f(x, t, w.k[i]) } -> std::same_as<void>;
                }) {
    if constexpr (requires { state_traits<X>::fit(w.k[i], x); }) state_traits<X>::fit(w.k[i], x);
    f(x, t, w.k[i]);
  } else {
    w.k[i] = f(x, t);
  }
  state_traits<X>::own(w.k[i], x);
}

namespace detail {

/// dt w_i for `count` weights w, at most `Most`, without an allocation.
template <std::size_t Most>
inline std::array<double, Most> scaled(const double* weights, std::size_t count, double dt) {
  std::array<double, Most> product{};
  for (std::size_t i = 0; i < count; ++i) product[i] = dt * weights[i];
  return product;
}

/// Some system, for the concepts below to name.
struct AnySystem {
  template <class X>
  X operator()(const X& x, double) const;
};

struct AnyNoise {
  template <class X>
  X operator()(const X& like) const;
};

}  // namespace detail

/// A one-step method: an immutable description, its memory in a Workspace.
/// 1. `order` (int), `stages` (evaluations a step) and `name` are static.
/// 2. `s.step(f, workspace, x, t, dt)` advances x from t to t + dt, for dt of either sign.
template <class S, class X = double>
concept Stepper = std::copyable<S> && State<X> &&
    requires(const S& s, detail::AnySystem& f, Workspace<X>& w, X& x) {
  { S::order } -> std::convertible_to<int>;
  { S::stages } -> std::convertible_to<int>;
  { S::name } -> std::convertible_to<std::string_view>;
  s.step(f, w, x, 0.0, 1.0);
};

/// A method that estimates its own error.
/// 1. It is a Stepper.
/// 2. `s.try_step(f, workspace, x, t, dt)` leaves x alone, the end in `workspace.next`, the error
/// in
///    `workspace.error`.
/// 3. `s.interpolate(f, workspace, x, t, dt, theta)` writes x(t + theta dt) within the tried step,
///    0 <= theta <= 1, to `workspace.stage`.
/// 4. `s.accept(workspace, x)` moves on to the step's end.
template <class S, class X = double>
concept ErrorStepper = Stepper<S, X> &&
    requires(const S& s, detail::AnySystem& f, Workspace<X>& w, X& x) {
  s.try_step(f, w, x, 0.0, 1.0);
  s.interpolate(f, w, x, 0.0, 1.0, 0.5);
  s.accept(w, x);
};

/// Where the numbers of fresh noise come from.
/// 1. `noise(like)` gives a state of the shape of `like` whose elements are independent and N(0,
/// 1),
///    and independent of all that it gave before.
template <class N, class X>
concept NoiseSource = requires(N& noise, const X& like) {
  { noise(like) } -> std::convertible_to<X>;
};

/// A one-step method that draws fresh noise: a step of a stochastic differential equation, or one
/// that replaces a part of the noise in x. An immutable description as a Stepper is, but none:
/// where x has to be a function of its start, as in a likelihood, it means nothing.
/// 1. `order` (int), `stages` (evaluations a step) and `name` are static.
/// 2. `s.step(f, workspace, x, t, dt, noise)` advances x from t to t + dt, with noise from a
///    NoiseSource.
template <class S, class X = double>
concept StochasticStepper = std::copyable<S> && State<X> &&
    requires(const S& s, detail::AnySystem& f, Workspace<X>& w, X& x, detail::AnyNoise& noise) {
  { S::order } -> std::convertible_to<int>;
  { S::stages } -> std::convertible_to<int>;
  { S::name } -> std::convertible_to<std::string_view>;
  s.step(f, w, x, 0.0, 1.0, noise);
};

}}}  // namespace flowmatch::ode
