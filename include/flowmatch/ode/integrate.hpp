#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/ode/control.hpp"
#include "flowmatch/ode/grid.hpp"
#include "flowmatch/ode/stepper.hpp"

namespace flowmatch::inline v0::ode {

/// What a solve took.
struct Statistics {
  std::int64_t evaluations = 0;
  std::int64_t accepted = 0;
  std::int64_t rejected = 0;
  double smallest_step = 0;  ///< of the accepted ones, as sizes
  double largest_step = 0;
  bool stopped = false;  ///< the observer asked to

  /// Adds up solves that belong together.
  Statistics& operator+=(const Statistics& s) {
    if (s.accepted > 0) {
      smallest_step = accepted == 0 ? s.smallest_step : std::min(smallest_step, s.smallest_step);
      largest_step = std::max(largest_step, s.largest_step);
    }
    evaluations += s.evaluations;
    accepted += s.accepted;
    rejected += s.rejected;
    stopped = stopped || s.stopped;
    return *this;
  }
};

/// Watches a solve.
/// 1. `o(t, x)` after each step, x at time t. It may return bool: false stops the solve.
template <class O, class X>
concept Observer = requires(O& o, double t, const X& x) {
  o(t, x);
};

struct NoObserver {
  template <class X>
  void operator()(double, const X&) const {}
};

namespace detail {

template <class O, class X>
bool go_on(O& observer, double t, const X& x) {
  if constexpr (std::is_same_v<decltype(observer(t, x)), bool>) {
    return observer(t, x);
  } else {
    observer(t, x);
    return true;
  }
}

/// f with its time kept within [t0, t1]: t + dt may lie a rounding error beyond the end.
template <class F>
class Clamped {
 public:
  Clamped(F& f, double t0, double t1) : f_(f), low_(std::min(t0, t1)), high_(std::max(t0, t1)) {}

  template <class X>
  requires requires(F& f, const X& x, double t) { f(x, t); }
  X operator()(const X& x, double t) { return f_(x, std::clamp(t, low_, high_)); }
  template <class X>
  requires requires(F& f, const X& x, double t, X& k) { f(x, t, k); }
  void operator()(const X& x, double t, X& k) { f_(x, std::clamp(t, low_, high_), k); }

 private:
  F& f_;
  double low_;
  double high_;
};

inline void count_step(Statistics& s, double dt) {
  const double size = std::abs(dt);
  s.smallest_step = s.accepted == 0 ? size : std::min(s.smallest_step, size);
  s.largest_step = std::max(s.largest_step, size);
  ++s.accepted;
}

}  // namespace detail

/// Advances x over the steps of a grid. The observer hears of x after each step. Throws OptionError
/// for a grid that only suits Euler's method (the post's) with another one. Nothing is read back
/// from x: a solve on a GPU never waits.
template <class S, State X, System<X> F, Observer<X> O = NoObserver>
requires Stepper<S, X> Statistics integrate(const S& stepper, F&& f, X& x, const TimeGrid& grid,
                                            O&& observer = {}) {
  if (!grid.contiguous() && S::stages > 1) {
    throw OptionError(
        "the post's time grid evaluates the model at t = 1 and is for euler only, not " +
        std::string(S::name) + "; use TimeGrid::uniform");
  }
  detail::Clamped clamped(f, grid.t0(), grid.t1());
  Workspace<X> w;
  Statistics s;
  double reached = grid.t0();
  const std::vector<TimeGrid::Step>& steps = grid.steps();
  for (std::size_t i = 0; i < steps.size(); ++i) {
    stepper.step(clamped, w, x, steps[i].t, steps[i].dt);
    detail::count_step(s, steps[i].dt);
    s.evaluations = w.evaluations;
    if (i + 1 == steps.size()) {
      reached = grid.t1();  // not t + dt, which may differ by a rounding error
    } else {
      reached = grid.contiguous() ? steps[i + 1].t : reached + steps[i].dt;
    }
    if (!detail::go_on(observer, reached, std::as_const(x))) {
      s.stopped = true;
      break;
    }
  }
  return s;
}

namespace detail {

/// A first step size (Hairer, Nørsett & Wanner 1993, II.4), never longer than the interval. Takes
/// two evaluations, of which the first is the first stage of the first step.
template <class S, State X, class F>
double first_step(const S&, F& f, Workspace<X>& w, const X& x, double t0, double t1,
                  const Tolerance& tolerance) {
  using Traits = state_traits<X>;
  if (w.k.size() < 2) w.k.resize(2);
  evaluate(f, w, x, t0, 0);
  w.k0_is_current = true;
  const double d0 = Traits::norm(x, x, x, tolerance);
  const double d1 = Traits::norm(w.k[0], x, x, tolerance);
  if (!std::isfinite(d0) || !std::isfinite(d1)) return d0 + d1;  // reported by the caller
  const double span = std::abs(t1 - t0);
  const double h0 = std::min(d0 < 1e-5 || d1 < 1e-5 ? 1e-6 : 0.01 * d0 / d1, span);
  const double direction = t1 > t0 ? 1 : -1;
  const double euler[1] = {direction * h0};
  Traits::combine(w.stage, x, euler, std::span<const X>(w.k).first(1));
  evaluate(f, w, w.stage, t0 + direction * h0, 1);
  const double change[2] = {-1, 1};
  Traits::difference(w.error, change, std::span<const X>(w.k).first(2));
  const double d2 = Traits::norm(w.error, x, x, tolerance) / h0;
  const double h1 = std::max(d1, d2) <= 1e-15 ? std::max(1e-6, h0 * 1e-3)
                                              : std::pow(0.01 / std::max(d1, d2), 1.0 / S::order);
  return std::min({100 * h0, h1, span});
}

/// The adaptive loop from times.front() through all of `times`, which rise or fall: on_step(t, x)
/// after each step, on_time(t, x) at each time but the first, where a step is cut to end.
template <class S, State X, class F, class OnStep, class OnTime, class C>
Statistics adapt(const S& stepper, F& f, X& x, std::span<const double> times,
                 const AdaptiveOptions& options, OnStep& on_step, OnTime& on_time, C& controller) {
  const Tolerance tolerance{options.rtol, options.atol, options.norm};
  const double direction = times.back() > times.front() ? 1 : -1;
  Clamped clamped(f, times.front(), times.back());
  Workspace<X> w;
  Statistics s;
  double t = times.front();
  double size = options.first_step > 0
                    ? options.first_step
                    : first_step(stepper, clamped, w, x, t, times.back(), tolerance);
  const auto fail = [&](const std::string& what) {
    throw SolverError(what + " at t = " + number_text(t) + ", step " + number_text(size) +
                          ", after " + std::to_string(w.evaluations) + " evaluations",
                      t, size, w.evaluations);
  };
  const char* const not_finite =
      options.atol > 0
          ? "the model's output is NaN or infinite; check the model and its input"
          : "the error is NaN or infinite; with atol = 0 no element of x may be 0: choose an atol "
            "above 0, or check the model and its input";
  if (!std::isfinite(size)) fail(not_finite);
  for (std::size_t next = 1; next < times.size();) {
    if (s.accepted + s.rejected >= options.max_steps) {
      fail("the step limit of " + std::to_string(options.max_steps) +
           " is used up; raise max_steps or the tolerances");
    }
    size = std::clamp(size, options.min_step, options.max_step);
    const double left = std::abs(times[next] - t);
    // A step to a given time up to 1 % longer saves a sliver of a step (as in Hairer's dopri5.f);
    // max_step holds to rounding.
    const bool arrives = left <= std::min(1.01 * size, (1 + 1e-12) * options.max_step);
    const double dt = direction * (arrives ? left : size);
    if (t + dt == t)
      fail(
          "the step is too small for the time's precision; raise the tolerances, or look for a "
          "jump");
    stepper.try_step(clamped, w, x, t, dt);
    const double error = state_traits<X>::norm(w.error, x, w.next, tolerance);
    if (!std::isfinite(error)) fail(not_finite);
    const StepDecision decision = controller(error, S::order);
    s.evaluations = w.evaluations;
    const double proposed = std::abs(dt) * decision.factor;
    if (!decision.accept) {
      ++s.rejected;
      if (std::abs(dt) <= options.min_step)
        fail("a step of min_step is too large for the tolerance; lower min_step");
      size = proposed;
      continue;
    }
    stepper.accept(w, x);
    count_step(s, dt);
    t = arrives ? times[next] : t + dt;
    // That a step was cut says nothing against the size it was cut from.
    size = arrives ? std::max(size, proposed) : proposed;
    bool proceed = go_on(on_step, t, std::as_const(x));
    if (arrives) {
      proceed = go_on(on_time, t, std::as_const(x)) && proceed;
      ++next;
    }
    if (!proceed) {
      s.stopped = true;
      break;
    }
  }
  return s;
}

}  // namespace detail

/// Advances x from t0 to t1 (t1 < t0: backwards) with steps as large as the tolerance allows, the
/// last one cut to end at t1. A first-same-as-last method of `stages` evaluations a step takes 2 +
/// stages (accepted + rejected) in all, or one less with a given first step; others no more than
/// that. Reads one number back from x a step.
/// Throws SolverError, with t, step size and evaluations, where the model gives NaN or Inf, the
/// step underflows or max_steps are used up; OptionError for options out of range.
template <class S, State X, System<X> F, Observer<X> O = NoObserver,
          StepController C = IntegralController>
requires ErrorStepper<S, X> Statistics integrate(const S& stepper, F&& f, X& x, double t0,
                                                 double t1, const AdaptiveOptions& options,
                                                 O&& observer = {}, C controller = {}) {
  options.validate();
  if (!std::isfinite(t0) || !std::isfinite(t1) || t0 == t1) {
    throw OptionError("an adaptive solve from " + number_text(t0) + " to " + number_text(t1) +
                      "; choose two finite, different times");
  }
  const double times[2] = {t0, t1};
  NoObserver on_time;
  return detail::adapt(stepper, f, x, times, options, observer, on_time, controller);
}

}  // namespace flowmatch::inline v0::ode
