#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/ode/batch_state.hpp"
#include "flowmatch/ode/control.hpp"
#include "flowmatch/ode/grid.hpp"
#include "flowmatch/ode/runge_kutta.hpp"

namespace flowmatch { inline namespace v0 { namespace ode {

/// What a per-sample solve took.
struct BatchStatistics {
  std::int64_t calls = 0;                ///< of f
  std::int64_t evaluations = 0;          ///< samples over all calls
  std::vector<std::int64_t> accepted{};  ///< steps of each sample
  std::vector<std::int64_t> rejected{};  ///< attempts of each sample that were repeated
};

namespace detail {

/// What is known of each sample that has not arrived yet.
template <class C>
struct Running {
  std::vector<std::int64_t> samples;  ///< places in the whole batch
  std::vector<double> t, size;
  std::vector<std::size_t> next;  ///< of the requested times
  std::vector<C> control;

  /// Keeps those at `left` only.
  void compact(const std::vector<std::int64_t>& left) {
    const auto keep = [&](auto& values) {
      for (std::size_t i = 0; i < left.size(); ++i)
        values[i] = values[static_cast<std::size_t>(left[i])];
      values.erase(values.begin() + static_cast<std::ptrdiff_t>(left.size()), values.end());
    };
    keep(samples);
    keep(t);
    keep(size);
    keep(next);
    keep(control);
  }
};

/// First step sizes (Hairer, Nørsett & Wanner 1993, II.4), each sample its own; k[0] is known.
template <BatchState X, class Evaluate>
std::vector<double> first_steps(Evaluate& evaluate, const X& x, std::vector<X>& k, double t0,
                                double t1, int order, const Tolerance& tolerance) {
  using Traits = batch_traits<X>;
  const auto n = static_cast<std::size_t>(Traits::size(x));
  const double span = std::abs(t1 - t0);
  const double direction = t1 > t0 ? 1 : -1;
  const std::vector<double> one(n, 1.0);
  const std::vector<double> d0 = Traits::norms(x, one, x, x, tolerance);
  const std::vector<double> d1 = Traits::norms(k[0], one, x, x, tolerance);
  std::vector<double> h0(n), dt(n), t(n);
  for (std::size_t b = 0; b < n; ++b) {
    h0[b] = trial_step(d0[b], d1[b], span);
    if (!std::isfinite(d0[b] + d1[b])) h0[b] = span;  // reported after the first tried step
    dt[b] = direction * h0[b];
    t[b] = t0 + dt[b];
  }
  X point, change;
  const double euler[1] = {1};
  Traits::combine(point, x, dt, euler, std::span<const X>(k).first(1));
  k[1] = evaluate(point, t);
  const double weights[2] = {-1, 1};
  Traits::difference(change, weights, std::span<const X>(k).first(2));
  const std::vector<double> d2 = Traits::norms(change, one, x, x, tolerance);
  for (std::size_t b = 0; b < n; ++b) {
    const double rate = d2[b] / h0[b];
    h0[b] = std::isfinite(std::max(d1[b], rate)) ? first_step_size(d1[b], rate, h0[b], order, span)
                                                 : span;
  }
  return h0;
}

}  // namespace detail

/// Advances each sample of x from times.front() to times.back() with a step size of its own
/// (Lienen & Günnemann 2022): errors are measured, and steps accepted or rejected, sample by
/// sample, so that a few hard samples do not slow the others down. on_time(i, samples, x) hears of
/// samples that have come to times[i]. Samples at the end leave the batch, so that later calls of f
/// are smaller. One read of the errors from x a step. For first-same-as-last methods with an error
/// estimate (`Bosh3`, `Tsit5`, `Dopri5`, `Dopri8`). `max_steps` counts a sample's tried steps.
/// Throws as the adaptive `integrate` does, naming the sample; ShapeError where f returns more or
/// fewer samples than it was given; OptionError for jumps and for
/// AtLimit::stop, which are for shared steps.
template <class S, BatchState X, BatchSystem<X> F, class OnTime, StepController C = PIDController>
requires(S::first_same_as_last) BatchStatistics
    integrate_batch(const S&, F&& f, X& x, const std::vector<double>& times,
                    const AdaptiveOptions& options, OnTime&& on_time, const C& controller = {}) {
  using Traits = batch_traits<X>;
  using Tableau = typename S::tableau;
  constexpr std::size_t nodes = S::nodes;
  options.validate();
  TimeGrid::nodes(times);  // throws unless there are two or more, in order
  if (!options.jumps.empty() || options.at_limit == AtLimit::stop) {
    throw OptionError(
        "per-sample steps know neither jumps nor AtLimit::stop; use the solver with shared steps");
  }
  const Tolerance tolerance{options.rtol, options.atol, options.norm};
  const double t0 = times.front();
  const double t1 = times.back();
  const double direction = t1 > t0 ? 1 : -1;
  const auto n = static_cast<std::size_t>(Traits::size(x));
  BatchStatistics s;
  s.accepted.assign(n, 0);
  s.rejected.assign(n, 0);
  if (n == 0) return s;

  detail::Running<C> r;
  r.samples.resize(n);
  std::iota(r.samples.begin(), r.samples.end(), std::int64_t{0});
  r.t.assign(n, t0);
  r.next.assign(n, 1);
  r.control.assign(n, controller);
  X now = Traits::select(x, r.samples);  // a copy that is ours
  X stage, end, error;
  std::vector<X> k(nodes);
  const auto evaluate = [&](const X& at, const std::vector<double>& t) -> X {
    ++s.calls;
    s.evaluations += static_cast<std::int64_t>(t.size());
    X slopes = f(at, std::span<const double>(t), std::span<const std::int64_t>(r.samples));
    if (Traits::size(slopes) != static_cast<std::int64_t>(t.size())) {
      throw ShapeError("f was given " + std::to_string(t.size()) + " samples and returned " +
                       std::to_string(Traits::size(slopes)) + "; return a slope for each");
    }
    return slopes;
  };
  const auto fail = [&](std::size_t b, const std::string& what) {
    throw SolverError(what + " in sample " + std::to_string(r.samples[b]) +
                          " at t = " + number_text(r.t[b]) + ", step " + number_text(r.size[b]) +
                          ", after " + std::to_string(s.calls) + " calls",
                      r.t[b], r.size[b], s.calls);
  };
  k[0] = evaluate(now, r.t);
  r.size = options.first_step > 0
               ? std::vector<double>(n, options.first_step)
               : detail::first_steps(evaluate, now, k, t0, times[1], S::order, tolerance);

  while (!r.samples.empty()) {
    const std::size_t m = r.samples.size();
    std::vector<double> dt(m), t(m);
    std::vector<char> arrives(m), accepted(m);
    for (std::size_t b = 0; b < m; ++b) {
      const auto place = static_cast<std::size_t>(r.samples[b]);
      if (s.accepted[place] + s.rejected[place] >= options.max_steps) {
        fail(b, "the step limit of " + std::to_string(options.max_steps) +
                    " is used up; raise max_steps or the tolerances");
      }
      r.size[b] = std::clamp(r.size[b], options.min_step, options.max_step);
      const double left = std::abs(times[r.next[b]] - r.t[b]);
      arrives[b] = detail::arrives(left, r.size[b], options.max_step);
      dt[b] = direction * (arrives[b] ? left : r.size[b]);
      if (r.t[b] + dt[b] == r.t[b]) {
        fail(b,
             "the step is too small for the time's precision; raise the tolerances, or look for "
             "a jump");
      }
    }
    const double* row = Tableau::a.data();
    for (std::size_t i = 1; i < nodes; row += i, ++i) {
      Traits::combine(stage, now, dt, std::span<const double>(row, i),
                      std::span<const X>(k).first(i));
      for (std::size_t b = 0; b < m; ++b) {
        t[b] = std::clamp(r.t[b] + Tableau::c[i] * dt[b], std::min(t0, t1), std::max(t0, t1));
      }
      k[i] = evaluate(stage, t);
    }
    std::swap(end, stage);  // the last stage was evaluated at the steps' ends
    Traits::difference(error, Tableau::error, std::span<const X>(k));
    const std::vector<double> errors = Traits::norms(error, dt, now, end, tolerance);

    bool any_arrived = false;
    for (std::size_t b = 0; b < m; ++b) {
      if (!std::isfinite(errors[b])) fail(b, detail::not_finite(options));
      const StepDecision decision = r.control[b](errors[b], S::order);
      const double proposed = std::abs(dt[b]) * decision.factor;
      const auto place = static_cast<std::size_t>(r.samples[b]);
      accepted[b] = decision.accept;
      if (!decision.accept) {
        ++s.rejected[place];
        if (std::abs(dt[b]) <= options.min_step)
          fail(b, "a step of min_step is too large for the tolerance; lower min_step");
        r.size[b] = proposed;
        arrives[b] = 0;
      } else {
        ++s.accepted[place];
        r.t[b] = arrives[b] ? times[r.next[b]] : r.t[b] + dt[b];
        r.size[b] = arrives[b] ? std::max(r.size[b], proposed) : proposed;
        any_arrived = any_arrived || arrives[b];
      }
    }
    Traits::blend(now, accepted, end);
    Traits::blend(k[0], accepted, k[nodes - 1]);
    if (!any_arrived) continue;

    for (std::size_t i = 1; i < times.size(); ++i) {
      std::vector<std::int64_t> index, places;
      for (std::size_t b = 0; b < m; ++b) {
        if (!arrives[b] || r.next[b] != i) continue;
        index.push_back(static_cast<std::int64_t>(b));
        places.push_back(r.samples[b]);
      }
      if (index.empty()) continue;
      const X arrived = Traits::select(now, index);
      on_time(i, std::span<const std::int64_t>(places), arrived);
      if (i + 1 == times.size()) Traits::scatter(x, places, arrived);
    }
    std::vector<std::int64_t> left;
    for (std::size_t b = 0; b < m; ++b) {
      if (arrives[b]) ++r.next[b];
      if (r.next[b] < times.size()) left.push_back(static_cast<std::int64_t>(b));
    }
    if (left.size() < m) {
      r.compact(left);
      now = Traits::select(now, left);
      k[0] = Traits::select(k[0], left);
    }
  }
  return s;
}

}}}  // namespace flowmatch::ode
