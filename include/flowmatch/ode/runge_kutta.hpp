#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

#include "flowmatch/ode/dopri8_tableau.hpp"
#include "flowmatch/ode/embedded_tableau.hpp"
#include "flowmatch/ode/stepper.hpp"
#include "flowmatch/ode/tableau.hpp"

namespace flowmatch { inline namespace v0 { namespace ode {

/// An explicit Runge–Kutta method: k_i = f(x + dt sum_j a_ij k_j, t + c_i dt), x <- x + dt sum_i
/// b_i k_i. With an embedded error estimate dt sum_i error_i k_i where the tableau has one.
template <class Tableau>
struct RungeKutta {
  /// Its coefficients.
  using tableau = Tableau;
  static constexpr std::string_view name = Tableau::name;  ///< the name that `with_method` knows
  static constexpr int order = Tableau::order;             ///< of its error, globally
  static constexpr std::size_t nodes = Tableau::c.size();  ///< slopes that a step needs
  static constexpr bool has_error = requires {
    Tableau::error;
  };  ///< whether it has an embedded method
  /// The first stage of a step is the last one of the step before.
  static constexpr bool first_same_as_last = has_error && nodes > 1 &&
                                             Tableau::c.back() == 1 && Tableau::b.back() == 0 &&
                                             std::equal(Tableau::b.begin(), Tableau::b.end() - 1,
                                                        Tableau::a.end() -
                                                            static_cast<std::ptrdiff_t>(nodes - 1));
  /// Evaluations a step (the first step of a method with first_same_as_last takes one more).
  static constexpr int stages = static_cast<int>(nodes) - (first_same_as_last ? 1 : 0);

  /// Takes x from t to t + dt; w holds the slopes.
  template <State X, System<X> F>
  void step(F& f, Workspace<X>& w, X& x, double t, double dt) const {
    evaluate_stages(f, w, x, t, dt);
    if constexpr (first_same_as_last) {
      std::swap(w.next, w.stage);  // as in try_step, without an error that nobody asks for
      w.end_is_current = true;
      accept(w, x);
    } else {
      combine(x, x, Tableau::b.data(), nodes, dt, w);
      w.k0_is_current = false;
    }
    w.t = w.end;
  }

  /// The step's end goes to w.next, its error estimate to w.error; x stays. A second try from the
  /// same point reuses the first stage.
  template <State X, System<X> F>
  void try_step(F& f, Workspace<X>& w, const X& x, double t, double dt) const requires has_error {
    evaluate_stages(f, w, x, t, dt);
    if constexpr (first_same_as_last) {
      std::swap(w.next, w.stage);  // the last stage was evaluated at the step's end
    } else {
      combine(w.next, x, Tableau::b.data(), nodes, dt, w);
    }
    const auto weights = detail::scaled<nodes>(Tableau::error.data(), nodes, dt);
    state_traits<X>::difference(w.error, std::span(weights).first(nodes),
                                std::span<const X>(w.k).first(nodes));
    w.end_is_current = first_same_as_last;
  }

  /// Dense output: x(t + theta dt), 0 <= theta <= 1, within the tried step, to w.stage, by the
  /// tableau's continuous extension or, without one, by Hermite's cubic (Hairer, Nørsett & Wanner
  /// 1993, II.6). Costs no evaluation: the one at the step's end is the next step's first.
  template <State X, System<X> F>
  void interpolate(F& f, Workspace<X>& w, const X& x, double t, double dt,
                   double theta) const requires has_error {
    if (!w.end_is_current) {
      if (w.k.size() < nodes + 1) w.k.resize(nodes + 1);
      evaluate(f, w, w.next, t + dt, nodes);
      w.end_is_current = true;
    }
    constexpr std::size_t count = nodes + (first_same_as_last ? 0 : 1);
    const auto weights = detail::scaled<count>(dense_weights(theta).data(), count, dt);
    state_traits<X>::combine(w.stage, x, weights, std::span<const X>(w.k).first(count));
  }

  /// Puts the state that `try_step` found into x, and keeps the last slope for the next step.
  template <State X>
  void accept(Workspace<X>& w, X& x) const requires has_error {
    std::swap(x, w.next);
    if (w.end_is_current) std::swap(w.k.front(), w.k[first_same_as_last ? nodes - 1 : nodes]);
    w.k0_is_current = w.end_is_current;
    w.t = w.end;
  }

 private:
  /// b_i(theta), for the stages and (not first same as last) the derivative at the step's end.
  static constexpr auto dense_weights(double theta) {
    std::array<double, nodes + (first_same_as_last ? 0 : 1)> weights{};
    if constexpr (requires { Tableau::dense; }) {
      for (std::size_t i = 0; i < nodes; ++i) {
        const auto& row = Tableau::dense[i];
        for (std::size_t p = row.size(); p-- > 0;) weights[i] = theta * (weights[i] + row[p]);
      }
    } else {
      const double square = theta * theta;
      for (std::size_t i = 0; i < nodes; ++i) weights[i] = Tableau::b[i] * square * (3 - 2 * theta);
      weights.front() += theta * (1 - theta) * (1 - theta);
      weights.back() += square * (theta - 1);
    }
    return weights;
  }

  template <State X>
  static void combine(X& out, const X& x, const double* weights, std::size_t count, double dt,
                      const Workspace<X>& w) {
    const auto c = detail::scaled<nodes>(weights, count, dt);
    state_traits<X>::combine(out, x, std::span(c).first(count),
                             std::span<const X>(w.k).first(count));
  }

  template <State X, System<X> F>
  static void evaluate_stages(F& f, Workspace<X>& w, const X& x, double t, double dt) {
    if (w.k.size() < nodes) {
      w.k.resize(nodes);
      // Both buffers from the start: first_same_as_last swaps them.
      if constexpr (first_same_as_last) state_traits<X>::combine(w.next, x, {}, {});
    }
    w.go_on_at(t, dt);
    w.end = t + dt;
    if (!w.k0_is_current) evaluate(f, w, x, t, 0);
    w.k0_is_current = has_error;  // a rejected step starts again from the same k[0]
    const double* row = Tableau::a.data();
    for (std::size_t i = 1; i < nodes; row += i, ++i) {
      combine(w.stage, x, row, i, dt, w);
      evaluate(f, w, w.stage, t + Tableau::c[i] * dt, i);
    }
  }
};

using Euler = RungeKutta<EulerTableau>;
using Midpoint = RungeKutta<MidpointTableau>;
using Heun2 = RungeKutta<Heun2Tableau>;
using Heun3 = RungeKutta<Heun3Tableau>;
using RK4 = RungeKutta<Rk4Tableau>;
using RK4Classic = RungeKutta<Rk4ClassicTableau>;
using AdaptiveHeun = RungeKutta<AdaptiveHeunTableau>;
using Fehlberg2 = RungeKutta<Fehlberg2Tableau>;
using Bosh3 = RungeKutta<Bosh3Tableau>;
using Tsit5 = RungeKutta<Tsit5Tableau>;
using Dopri5 = RungeKutta<Dopri5Tableau>;
using Dopri8 = RungeKutta<Dopri8Tableau>;

}}}  // namespace flowmatch::ode
