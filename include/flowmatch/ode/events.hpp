#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "flowmatch/ode/adapt.hpp"

namespace flowmatch { inline namespace v0 { namespace ode {

enum class Direction { any, rising, falling };

/// Something to look for on the way: where g(t, x) passes through 0.
template <State X>
struct Event {
  std::function<double(double t, const X& x)> g;  ///< the function whose sign is watched
  Direction direction = Direction::any;           ///< of g along the solve
  bool terminal = true;                           ///< the solve ends there
};

/// An event that took place.
template <State X>
struct EventHit {
  std::size_t event;  ///< which of those asked for
  double t;           ///< when
  X x;                ///< where
};

/// How a solve with events ended.
template <State X>
struct EventResult {
  Statistics statistics;          ///< with Status::event where a terminal event ended the solve
  std::vector<EventHit<X>> hits;  ///< in the order of time
};

namespace detail {

inline bool crosses(double before, double after, Direction direction) {
  const bool rising = before < 0 && after >= 0;
  const bool falling = before > 0 && after <= 0;
  return (rising && direction != Direction::falling) || (falling && direction != Direction::rising);
}

/// The zero of g between a and b, where its signs differ, to the precision of time, on b's side of
/// it: inverse quadratic interpolation, and bisection where the last three points do not bend as
/// that needs (Chandrupatla 1997).
template <class G>
double find_zero(G g, double a, double ga, double b, double gb) {
  if (gb == 0) return b;
  // The newest point, the one at the zero's other side, and the one before.
  double x1 = b, x2 = a, x3 = a;
  double g1 = gb, g2 = ga, g3 = ga;
  double part = g1 / (g1 - g2);  // where to look next, of the way from x1 to x2
  for (int i = 0; i < 200; ++i) {
    const double width = std::abs(x2 - x1);
    const double precision =
        2 * std::numeric_limits<double>::epsilon() * std::max(std::abs(x1), std::abs(x2));
    if (width <= precision) break;
    // A step beyond the zero at least, once the guess is as good as that.
    const double least = precision / (2 * width);
    const double t = x1 + std::clamp(part, least, 1 - least) * (x2 - x1);
    if (t == x1 || t == x2) break;
    const double gt = g(t);
    if (gt == 0) return t;
    if ((gt > 0) == (g1 > 0)) {
      x3 = x1, g3 = g1;
    } else {
      x3 = x2, g3 = g2;
      x2 = x1, g2 = g1;
    }
    x1 = t, g1 = gt;
    const double xi = (x1 - x2) / (x3 - x2);
    const double phi = (g1 - g2) / (g3 - g2);
    if (phi * phi < xi && (1 - phi) * (1 - phi) < 1 - xi) {
      part = g1 / (g2 - g1) * (g3 / (g2 - g3)) +
             (x3 - x1) / (x2 - x1) * (g1 / (g3 - g1)) * (g2 / (g3 - g2));
    } else {
      part = 0.5;
    }
  }
  return (g1 > 0) == (gb > 0) ? x1 : x2;
}

}  // namespace detail

/// The adaptive solve of adapt.hpp that looks for events on the way, by root finding on the dense
/// output of each step: an event takes place where its g changes sign between two steps' ends, and
/// its time is exact to the interpolant. The first terminal event ends the solve there, x and its
/// time being the last entry of `hits`. A g that is 0 at t0 has not taken place; two zeros of one g
/// within a step are not seen: bound the step by max_step. Hits come in the order of their times.
/// Throws as the adaptive `integrate` does; OptionError for an event without a g, SolverError where
/// a g is NaN, whose sign would be lost.
template <class S, State X, System<X> F, Observer<X> O = NoObserver,
          StepController C = PIDController, class Norm = StateNorm>
requires ErrorStepper<S, X> EventResult<X> integrate_events(
    const S& stepper, F&& f, X& x, double t0, double t1, const std::vector<Event<X>>& events,
    const AdaptiveOptions& options, O&& observer = {}, C controller = {}, const Norm& norm = {}) {
  options.validate();
  detail::check_interval(t0, t1);
  EventResult<X> result;
  std::vector<double> before;
  const auto value = [&](std::size_t i, double t, const X& at) {
    const double g = events[i].g(t, at);
    if (std::isnan(g)) {
      throw SolverError("g of event " + std::to_string(i) + " is NaN at t = " + number_text(t) +
                            "; give it a sign wherever the solve comes",
                        t, std::abs(t1 - t0), 0);
    }
    return g;
  };
  for (std::size_t i = 0; i < events.size(); ++i) {
    if (!events[i].g) throw OptionError("event " + std::to_string(i) + " has no g; give it one");
    before.push_back(value(i, t0, x));
  }
  const auto visit = [&](const auto& step) {
    std::vector<std::pair<double, std::size_t>> found;
    for (std::size_t i = 0; i < events.size(); ++i) {
      const double after = value(i, step.t1, step.end());
      if (detail::crosses(before[i], after, events[i].direction)) {
        const auto along = [&](double t) { return value(i, t, step.at(t)); };
        found.emplace_back(detail::find_zero(along, step.t0, before[i], step.t1, after), i);
      }
      before[i] = after;
    }
    std::sort(found.begin(), found.end(), [&](const auto& a, const auto& b) {
      return t1 > t0 ? a.first < b.first : a.first > b.first;
    });
    for (const auto& [t, i] : found) {
      X copy{};
      state_traits<X>::combine(copy, step.at(t), {}, {});
      result.hits.push_back({i, t, std::move(copy)});
      if (events[i].terminal) return detail::Verdict{Status::event, t};
    }
    const bool proceed = detail::go_on(observer, step.t1, step.end());
    return detail::Verdict{proceed ? Status::finished : Status::stopped, step.t1};
  };
  result.statistics = detail::adapt(stepper, f, x, t0, detail::cuts(t0, t1, options.jumps), true,
                                    options, visit, controller, norm);
  return result;
}

}}}  // namespace flowmatch::ode
