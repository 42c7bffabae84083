#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace flowmatch { inline namespace v0 { namespace ode {

/// How a solve ended.
enum class Status {
  finished,    ///< at its last time
  stopped,     ///< the observer asked to
  event,       ///< at a terminal event (events.hpp)
  step_limit,  ///< max_steps were used up, with AtLimit::stop
};

/// What a solve took.
struct Statistics {
  std::int64_t evaluations = 0;  ///< of the right-hand side
  std::int64_t accepted = 0;     ///< steps that count
  std::int64_t rejected = 0;     ///< attempts that were repeated
  /// @{ Of the accepted ones, as sizes; NaN where there is none.
  double smallest_step = std::numeric_limits<double>::quiet_NaN();
  double largest_step = std::numeric_limits<double>::quiet_NaN();
  /// @}
  Status status = Status::finished;  ///< how the solve ended

  /// Adds up solves that belong together.
  Statistics& operator+=(const Statistics& s) {
    if (s.accepted > 0) {
      smallest_step = accepted == 0 ? s.smallest_step : std::min(smallest_step, s.smallest_step);
      largest_step = accepted == 0 ? s.largest_step : std::max(largest_step, s.largest_step);
    }
    evaluations += s.evaluations;
    accepted += s.accepted;
    rejected += s.rejected;
    if (status == Status::finished) status = s.status;
    return *this;
  }
};

/// Watches a solve.
/// 1. `o(t, x)` after each step, x at time t. It may return bool: false stops the solve.
template <class O, class X>
concept Observer = requires(O& o, double t, const X& x) {
  o(t, x);
};

/// Looks at nothing.
struct NoObserver {
  /// Does nothing.
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
  Clamped(F& f, double t0, double t1) : f_(f) { within(t0, t1); }

  void within(double t0, double t1) {
    low_ = std::min(t0, t1);
    high_ = std::max(t0, t1);
  }

  template <class X>
  requires requires(F& f, const X& x, double t) { f(x, t); }
  X operator()(const X& x, double t) { return f_(x, std::clamp(t, low_, high_)); }
  template <class X>
  requires requires(F& f, const X& x, double t, X& k) { f(x, t, k); }
  void operator()(const X& x, double t, X& k) { f_(x, std::clamp(t, low_, high_), k); }
  /// The average slope from t to r, of a system that knows it.
  template <class X>
  requires requires(F& f, const X& x, double t) { f.over(x, t, t); }
  X over(const X& x, double t, double r) {
    return f_.over(x, std::clamp(t, low_, high_), std::clamp(r, low_, high_));
  }
  /// The slope and the score at t, of a system that knows it.
  template <class X>
  requires requires(F& f, const X& x, double t) { f.velocity_and_score(x, t); }
  auto velocity_and_score(const X& x, double t) {
    return f_.velocity_and_score(x, std::clamp(t, low_, high_));
  }

 private:
  F& f_;
  double low_ = 0;
  double high_ = 0;
};

inline void count_step(Statistics& s, double dt) {
  const double size = std::abs(dt);
  s.smallest_step = s.accepted == 0 ? size : std::min(s.smallest_step, size);
  s.largest_step = s.accepted == 0 ? size : std::max(s.largest_step, size);
  ++s.accepted;
}

}  // namespace detail

}}}  // namespace flowmatch::ode
