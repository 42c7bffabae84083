#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/ode/control.hpp"
#include "flowmatch/ode/statistics.hpp"
#include "flowmatch/ode/stepper.hpp"

namespace flowmatch { inline namespace v0 { namespace ode {

/// The error of a tried step in units of the tolerance, by the state's own norm.
/// For a norm of your own: a callable (error, x, next, tolerance) -> double, NaN or Inf where an
/// element is.
struct StateNorm {
  /// The norm of `error` for a step from x to `next`; up to 1 is within the tolerance.
  template <State X>
  double operator()(const X& error, const X& x, const X& next, const Tolerance& tolerance) const {
    return state_traits<X>::norm(error, x, next, tolerance);
  }
};

namespace detail {

/// A first step size (Hairer, Nørsett & Wanner 1993, II.4), never longer than the interval. Takes
/// two evaluations, of which the first is the first stage of the first step.
template <class S, State X, class F, class Norm>
double first_step(const S&, F& f, Workspace<X>& w, const X& x, double t0, double t1,
                  const Tolerance& tolerance, const Norm& norm) {
  using Traits = state_traits<X>;
  if (w.k.size() < 2) w.k.resize(2);
  evaluate(f, w, x, t0, 0);
  w.k0_is_current = true;
  w.t = t0;
  const double d0 = norm(x, x, x, tolerance);
  const double d1 = norm(w.k[0], x, x, tolerance);
  if (!std::isfinite(d0) || !std::isfinite(d1)) return d0 + d1;  // reported by the caller
  const double span = std::abs(t1 - t0);
  const double h0 = trial_step(d0, d1, span);
  const double direction = t1 > t0 ? 1 : -1;
  const double euler[1] = {direction * h0};
  Traits::combine(w.stage, x, euler, std::span<const X>(w.k).first(1));
  evaluate(f, w, w.stage, t0 + direction * h0, 1);
  const double change[2] = {-1, 1};
  Traits::difference(w.error, change, std::span<const X>(w.k).first(2));
  const double d2 = norm(w.error, x, x, tolerance) / h0;
  return first_step_size(d1, d2, h0, S::order, span);
}

/// An accepted step, for those who look between its ends.
template <class S, State X, class F>
struct AcceptedStep {
  const S& stepper;
  F& f;
  Workspace<X>& w;
  const X& x;  ///< at its start
  double t0;
  double t1;
  double dt;  ///< t1 - t0 up to rounding

  const X& end() const { return w.next; }
  /// x at t in [t0, t1]; lives until the next call.
  const X& at(double t) const {
    if (t == t1) return w.next;
    stepper.interpolate(f, w, x, t0, dt, std::clamp((t - t0) / dt, 0.0, 1.0));
    return w.stage;
  }
};

/// What a visitor of accepted steps wants: to go on, or to end at `t` within the step.
struct Verdict {
  Status status = Status::finished;
  double t = 0;
};

/// Whether two times between t0 and t1 are the same but for a few roundings, as 0.1 + 0.2 and 0.3.
inline bool same_time(double a, double b, double t0, double t1) {
  const double unit = std::numeric_limits<double>::epsilon();
  return std::abs(a - b) <= 4 * unit * std::max(std::abs(t0), std::abs(t1));
}

/// The times at which steps must end, in order: those of `times` inside (t0, t1), and t1. Of times
/// that are the same but for roundings one stays: between them no step could be made.
inline std::vector<double> cuts(double t0, double t1, std::vector<double> times) {
  std::erase_if(times, [&](double t) {
    return !(std::min(t0, t1) < t && t < std::max(t0, t1)) || same_time(t, t0, t0, t1) ||
           same_time(t, t1, t0, t1);
  });
  times.push_back(t1);
  if (t1 > t0) {
    std::sort(times.begin(), times.end());
  } else {
    std::sort(times.begin(), times.end(), std::greater<>());
  }
  const auto same = [&](double a, double b) { return same_time(a, b, t0, t1); };
  times.erase(std::unique(times.begin(), times.end(), same), times.end());
  return times;
}

/// The adaptive loop from t0 to t1: visit(AcceptedStep) -> Verdict hears of each step before x
/// moves on to its end. Steps also end at `cuts`, of which the last is t1; those before count as
/// jumps if `jumping`.
template <class S, State X, class F, class Visit, class C, class Norm>
Statistics adapt(const S& stepper, F& f, X& x, double t0, const std::vector<double>& cuts,
                 bool jumping, const AdaptiveOptions& options, Visit& visit, C& controller,
                 const Norm& norm) {
  const Tolerance tolerance{options.rtol, options.atol, options.norm};
  const double direction = cuts.back() > t0 ? 1 : -1;
  Clamped clamped(f, t0, cuts.back());
  const auto jumps_at = [&](double end) {
    return std::any_of(options.jumps.begin(), options.jumps.end(),
                       [&](double jump) { return same_time(jump, end, t0, cuts.back()); });
  };
  const auto enter = [&](std::size_t next) {  // the stretch that ends at cuts[next]
    if (!jumping) return;
    const bool first = next == 0, last = next + 1 == cuts.size();
    const double from = first ? t0 : cuts[next - 1], to = cuts[next];
    clamped.within(!first || jumps_at(t0) ? std::nextafter(from, to) : from,
                   !last || jumps_at(to) ? std::nextafter(to, from) : to);
  };
  enter(0);
  Workspace<X> w;
  Statistics s;
  double t = t0;
  double size = options.first_step > 0
                    ? options.first_step
                    : first_step(stepper, clamped, w, x, t, cuts.front(), tolerance, norm);
  const auto fail = [&](const std::string& what) {
    throw SolverError(what + " at t = " + number_text(t) + ", step " + number_text(size) +
                          ", after " + std::to_string(w.evaluations) + " evaluations",
                      t, size, w.evaluations);
  };
  if (!std::isfinite(size)) fail(not_finite(options));
  for (std::size_t next = 0; next < cuts.size();) {
    s.evaluations = w.evaluations;
    if (s.accepted + s.rejected >= options.max_steps) {
      if (options.at_limit == AtLimit::stop) {
        s.status = Status::step_limit;
        return s;
      }
      fail("the step limit of " + std::to_string(options.max_steps) +
           " is used up; raise max_steps or the tolerances");
    }
    size = std::clamp(size, options.min_step, options.max_step);
    const double left = std::abs(cuts[next] - t);
    const bool arrives = detail::arrives(left, size, options.max_step);
    // Where two steps are left anyhow, two equal ones err less than a long and a short one.
    const bool halves = !arrives && left < 2 * size && left / 2 >= options.min_step;
    const double dt = direction * (arrives ? left : halves ? left / 2 : size);
    if (t + dt == t)
      fail(
          "the step is too small for the time's precision; raise the tolerances, or look for a "
          "jump");
    stepper.try_step(clamped, w, x, t, dt);
    const double error = norm(w.error, x, w.next, tolerance);
    if (!std::isfinite(error)) fail(not_finite(options));
    const StepDecision decision = controller(error, S::order);
    const double proposed = std::abs(dt) * decision.factor;
    if (!decision.accept) {
      ++s.rejected;
      if (std::abs(dt) <= options.min_step)
        fail("a step of min_step is too large for the tolerance; lower min_step");
      size = proposed;
      continue;
    }
    count_step(s, dt);
    const double end = arrives ? cuts[next] : t + dt;
    const AcceptedStep<S, X, Clamped<F>> step{stepper, clamped, w, x, t, end, dt};
    const Verdict verdict = visit(step);
    s.evaluations = w.evaluations;
    s.status = verdict.status;
    if (verdict.status != Status::finished && verdict.t != end) {
      step.at(verdict.t);
      std::swap(x, w.stage);
      return s;
    }
    stepper.accept(w, x);
    if (verdict.status != Status::finished) return s;
    t = end;
    // That a step was cut says nothing against the size it was cut from.
    size = arrives || halves ? std::max(size, proposed) : proposed;
    if (arrives && ++next < cuts.size()) {
      enter(next);
      if (jumping) w.k0_is_current = false;
    }
  }
  return s;
}

inline void check_interval(double t0, double t1) {
  if (!std::isfinite(t0) || !std::isfinite(t1) || t0 == t1) {
    throw OptionError("an adaptive solve from " + number_text(t0) + " to " + number_text(t1) +
                      "; choose two finite, different times");
  }
}

}  // namespace detail

}}}  // namespace flowmatch::ode
