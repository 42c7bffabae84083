#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/ode/adapt.hpp"
#include "flowmatch/ode/control.hpp"
#include "flowmatch/ode/grid.hpp"
#include "flowmatch/ode/statistics.hpp"
#include "flowmatch/ode/stepper.hpp"

namespace flowmatch { inline namespace v0 { namespace ode {

namespace detail {

/// Goes over a grid: advance(f, workspace, x, t, dt) makes a step.
template <State X, class F, class Advance, class O>
Statistics walk(F& f, X& x, const TimeGrid& grid, const Advance& advance, O& observer) {
  Clamped clamped(f, grid.t0(), grid.t1());
  Workspace<X> w;
  Statistics s;
  double reached = grid.t0();
  const std::vector<TimeGrid::Step>& steps = grid.steps();
  for (std::size_t i = 0; i < steps.size(); ++i) {
    advance(clamped, w, x, steps[i].t, steps[i].dt);
    count_step(s, steps[i].dt);
    s.evaluations = w.evaluations;
    if (i + 1 == steps.size()) {
      reached = grid.t1();  // not t + dt, which may differ by a rounding error
    } else {
      reached = grid.contiguous() ? steps[i + 1].t : reached + steps[i].dt;
    }
    if (!go_on(observer, reached, std::as_const(x))) {
      s.status = Status::stopped;
      break;
    }
  }
  return s;
}

inline void check_contiguous(const TimeGrid& grid, std::string_view method) {
  if (grid.contiguous()) return;
  throw OptionError(
      "the post's time grid evaluates the model at t = 1 and is for euler only, not " +
      std::string(method) + "; use TimeGrid::uniform");
}

}  // namespace detail

/// Advances x over the steps of a grid. The observer hears of x after each step. Throws OptionError
/// for a grid that only suits Euler's method (the post's) with another one. Nothing is read back
/// from x: a solve on a GPU never waits.
template <class S, State X, System<X> F, Observer<X> O = NoObserver>
requires Stepper<S, X> Statistics integrate(const S& stepper, F&& f, X& x, const TimeGrid& grid,
                                            O&& observer = {}) {
  if (S::order > 1) detail::check_contiguous(grid, S::name);
  return detail::walk(
      f, x, grid,
      [&](auto& clamped, Workspace<X>& w, X& at, double t, double dt) {
        stepper.step(clamped, w, at, t, dt);
      },
      observer);
}

/// The same by a method that draws fresh noise, which comes from `noise`.
template <class S, State X, System<X> F, NoiseSource<X> Noise, Observer<X> O = NoObserver>
requires StochasticStepper<S, X> Statistics integrate(const S& stepper, F&& f, X& x,
                                                      const TimeGrid& grid, Noise&& noise,
                                                      O&& observer = {}) {
  detail::check_contiguous(grid, S::name);
  return detail::walk(
      f, x, grid,
      [&](auto& clamped, Workspace<X>& w, X& at, double t, double dt) {
        stepper.step(clamped, w, at, t, dt, noise);
      },
      observer);
}

/// Advances x from t0 to t1 (t1 < t0: backwards) with steps as large as the tolerance allows, the
/// last one cut to end at t1. A first-same-as-last method of `stages` evaluations a step takes 2 +
/// stages (accepted + rejected) in all, or one less with a given first step; others no more than
/// that. Reads one number back from x a step. The observer hears of x after each step.
/// Throws SolverError, with t, step size and evaluations, where the model gives NaN or Inf, the
/// step underflows or max_steps are used up; OptionError for options out of range.
template <class S, State X, System<X> F, Observer<X> O = NoObserver,
          StepController C = PIDController, class Norm = StateNorm>
requires ErrorStepper<S, X> Statistics integrate(const S& stepper, F&& f, X& x, double t0,
                                                 double t1, const AdaptiveOptions& options,
                                                 O&& observer = {}, C controller = {},
                                                 const Norm& norm = {}) {
  options.validate();
  detail::check_interval(t0, t1);
  const auto visit = [&](const auto& step) {
    const bool proceed = detail::go_on(observer, step.t1, step.end());
    return detail::Verdict{proceed ? Status::finished : Status::stopped, step.t1};
  };
  return detail::adapt(stepper, f, x, t0, detail::cuts(t0, t1, options.jumps), true, options, visit,
                       controller, norm);
}

}}}  // namespace flowmatch::ode
