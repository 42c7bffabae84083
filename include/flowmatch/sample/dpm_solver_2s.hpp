#pragma once

#include <array>
#include <cmath>
#include <span>
#include <string_view>
#include <utility>

#include "flowmatch/ode/state.hpp"
#include "flowmatch/ode/stepper.hpp"
#include "flowmatch/path/schedulers.hpp"
#include "flowmatch/sample/forward_step.hpp"

namespace flowmatch { inline namespace v0 {

/// DPM-Solver++ 2S for a velocity of the straight path, the singlestep one of order 2 (Lu et al.
/// 2022, algorithm 1 with r = 1/2): a step of order 1 to the middle of the step in lambda = log(t /
/// (1 - t)), and from its start a whole one by the prediction of the data found there. Two
/// evaluations a step; it needs no step before, so that guidance or corrections may change x
/// between steps. From t = 0 and to t = 1, where lambda is infinite, it is of order 1 with one
/// evaluation.
///
/// Steps go forward within [0, 1]; throws OptionError for others. A model that is a velocity of
/// another path does not compile with it; take it through `Rescheduled`.
struct DpmSolver2S {
  static constexpr int order = 2;                            ///< of its error
  static constexpr int stages = 2;                           ///< evaluations a step
  static constexpr std::string_view name = "dpm_solver_2s";  ///< the name that `with_method` knows
  /// Of the path that its steps are right for.
  using scheduler_type = CondOTScheduler;

  /// Takes x from t to t + dt.
  template <ode::State X, ode::System<X> F>
  void step(F& f, ode::Workspace<X>& w, X& x, double t, double dt) const {
    using Traits = ode::state_traits<X>;
    const auto [begin, s] = detail::forward_step(name, t, dt);
    t = begin;
    w.go_on_at(t, dt);
    w.k.resize(1);
    ode::evaluate(f, w, x, t, 0);
    double end = s;
    if (t > 0 && s < 1) {
      const double odds = std::sqrt(t / (1 - t) * (s / (1 - s)));
      end = odds / (1 + odds);
    }
    // A step of order 1 is Euler's.
    const std::array<double, 1> forward{end - t};
    Traits::combine(w.next, x, forward, std::span<const X>(w.k));
    if (end < s) {
      ode::evaluate(f, w, w.next, end, 0);
      // x_1 = x_m + (1 - m) v_m,  x_s = (1-s)/(1-t) x + (s - t (1-s)/(1-t)) x_1
      const double kept = (1 - s) / (1 - t), data = s - kept * t;
      const std::array<double, 3> weights{kept, data, data * (1 - end)};
      const std::array<X, 3> parts{x, w.next, w.k[0]};
      Traits::difference(w.stage, weights, parts);
      std::swap(w.next, w.stage);
    }
    std::swap(x, w.next);
    w.t = t + dt;
  }
};

}}  // namespace flowmatch
