#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "flowmatch/ode/state.hpp"
#include "flowmatch/ode/stepper.hpp"
#include "flowmatch/path/schedulers.hpp"
#include "flowmatch/sample/forward_step.hpp"

namespace flowmatch { inline namespace v0 {

/// UniPC for a velocity of the straight path: a multistep method of predictions of the data whose
/// every step is corrected afterwards, by the evaluation that the next one begins with: so a
/// corrector of one order more costs nothing (Zhao et al. 2023, "UniPC", with B(h) = e^h - 1; as
/// diffusers' UniPCMultistepScheduler has it with `bh2` and predictions of x_0).
///
/// Orders are 2 and 3; they are lower where there are too few steps before, and 1 in steps that are
/// infinitely long in lambda = log(t / (1 - t)): from t = 0 and to t = 1. One evaluation a step.
/// Steps go forward within [0, 1]; throws OptionError for others. A model that is a velocity of
/// another path does not compile with it; take it through `Rescheduled`.
template <int Order = 2>
class UniPC {
  static_assert(Order == 2 || Order == 3, "flowmatch: UniPC is of order 2 or 3");

 public:
  static constexpr int order = Order;  ///< of its predictor's error
  static constexpr int stages = 1;     ///< evaluations a step
  static constexpr std::string_view name =
      Order == 2 ? "unipc_2" : "unipc_3";  ///< the name that `with_method` knows
  /// Of the path that its steps are right for.
  using scheduler_type = CondOTScheduler;

  /// Takes x from t to t + dt; w holds the last predictions and where the last step began.
  template <ode::State X, ode::System<X> F>
  void step(F& f, ode::Workspace<X>& w, X& x, double t, double dt) const {
    using Traits = ode::state_traits<X>;
    const auto [begin, s] = detail::forward_step(name, t, dt);
    t = begin;
    w.go_on_at(t, dt);
    w.k.resize(1);
    w.history.resize(Order + 1);  // predictions, newest first; then where the last step began
    w.spans.resize(Order);        // of the steps before, newest first, in lambda
    ode::evaluate(f, w, x, t, 0);
    const std::array<double, 1> forward{1 - t};
    Traits::combine(w.stage, x, forward, std::span<const X>(w.k));  // the data that v points at
    if (w.past > 0 && std::isfinite(w.spans[0])) {
      // Where the last step began, as lambda tells.
      const double decay = std::exp(-w.spans[0]), before = decay * t / (1 - t + decay * t);
      move(w, x, w.history[Order], {before, t, decay}, points(w, 1), &w.stage);
    }
    std::rotate(w.history.begin(), w.history.end() - 2, w.history.end() - 1);
    std::swap(w.history[0], w.stage);

    const double decay = (t / s) * ((1 - s) / (1 - t));  // e^-h
    const int order_here = decay > 0 ? points(w, 0) : 1;
    move(w, w.next, x, {t, s, decay}, order_here, static_cast<const X*>(nullptr));
    std::rotate(w.spans.begin(), w.spans.end() - 1, w.spans.end());
    w.spans[0] = -std::log(decay);
    w.past = std::min<std::int64_t>(w.past + 1, Order);
    std::swap(w.history[Order], x);
    std::swap(x, w.next);
    w.t = t + dt;
  }

 private:
  using Weights = std::array<double, Order + 1>;

  struct Interval {
    double t, s;
    double decay;  // e^-h
  };

  /// How many predictions there are for a step, the newest included, the `later` newest spans left
  /// out: those in lambda's finite reach.
  template <class X>
  static int points(const ode::Workspace<X>& w, int later) {
    int count = 1;
    for (std::int64_t i = later;
         i < w.past && count < Order && std::isfinite(w.spans[static_cast<std::size_t>(i)]); ++i)
      ++count;
    return count;
  }

  /// to = x moved over an interval by `count` predictions, and by the one at its end if it is
  /// given: (1-s)/(1-t) x + s (1 - e^-h) (m_0 + sum_k rho_k (m_k - m_0) / r_k), where r_k tells how
  /// far from t in lambda a prediction lies, in units of h: 1 for the one at the end.
  template <class X>
  static void move(ode::Workspace<X>& w, X& to, const X& x, const Interval& i, int count,
                   const X* end) {
    const double h = -std::log(i.decay);
    const std::size_t first_span = end == nullptr ? 0 : 1;
    Weights r{};
    std::array<X, Order + 3> parts{x, w.history[0]};
    double back = 0;
    std::size_t n = 0;
    for (; n + 1 < static_cast<std::size_t>(count); ++n) {
      back += w.spans[first_span + n];
      r[n] = -back / h;
      parts[2 + n] = w.history[n + 1];
    }
    if (end != nullptr) {
      r[n] = 1;
      parts[2 + n++] = *end;
    }
    const Weights rho = solve(r, n, h, count == 1 || (end == nullptr && count == 2));
    const double all = i.s * (1 - i.decay);
    std::array<double, Order + 3> weights{(1 - i.s) / (1 - i.t), all};
    for (std::size_t k = 0; k < n; ++k) {
      weights[2 + k] = all * rho[k] / r[k];
      weights[1] -= weights[2 + k];
    }
    ode::state_traits<X>::difference(to, std::span<const double>(weights).first(2 + n),
                                     std::span<const X>(parts).first(2 + n));
  }

  /// rho with sum_k rho_k r_k^j = b_j for j < n: Gauss's elimination. One point alone has 1/2, as
  /// the authors found best.
  static Weights solve(const Weights& r, std::size_t n, double h, bool half) {
    Weights b{};
    if (half) {
      b[0] = 0.5;
      return b;
    }
    std::array<Weights, Order + 1> rows{};
    double phi = std::expm1(-h) / -h - 1, factorial = 1;
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t k = 0; k < n; ++k) rows[j][k] = j == 0 ? 1 : rows[j - 1][k] * r[k];
      b[j] = phi * factorial / std::expm1(-h);
      factorial *= static_cast<double>(j + 2);
      phi = phi / -h - 1 / factorial;
    }
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t i = j + 1; i < n; ++i) {
        const double by = rows[i][j] / rows[j][j];
        for (std::size_t k = j; k < n; ++k) rows[i][k] -= by * rows[j][k];
        b[i] -= by * b[j];
      }
    }
    for (std::size_t j = n; j-- > 0;) {
      for (std::size_t k = j + 1; k < n; ++k) b[j] -= rows[j][k] * b[k];
      b[j] /= rows[j][j];
    }
    return b;
  }
};

}}  // namespace flowmatch
