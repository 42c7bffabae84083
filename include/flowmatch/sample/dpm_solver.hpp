#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string_view>
#include <utility>

#include "flowmatch/core/error.hpp"
#include "flowmatch/ode/stepper.hpp"
#include "flowmatch/path/schedulers.hpp"
#include "flowmatch/sample/forward_step.hpp"

namespace flowmatch { inline namespace v0 {

/// DPM-Solver++ for a velocity of the straight path, with as much fresh noise as eta says: a method
/// for the Sampler of one evaluation a step. A step from t to s goes to the data that the velocity
/// points at, and puts new noise in the place of a part of the old:
///   x_1 = x_t + (1 - t) v,  x_0 = (x_t - t x_1) / (1 - t),
///   x_s = s x_1 + sqrt((1 - s)^2 - sigma^2) x_0 + sigma z,  z ~ N(0, I),
///   sigma = eta (1 - s) sqrt(1 - e^(-2 h)),  h = lambda(s) - lambda(t),  lambda(t) = log(t / (1 -
///   t)).
/// Order 1 is DDIM (Song, Meng & Ermon 2021, eq. 12 and 16): Euler's method at eta 0, the ancestral
/// sampling of DDPM at 1. Order 2, multistep, draws a line through this x_1 and that of the step
/// before, h' earlier, and takes what it comes to in the middle of the step (Lu et al. 2022,
/// DPM-Solver++ 2M, at eta 1 SDE-DPM-Solver++ 2M):
///   x_1 + h / (2 h') (x_1 - x_1');
/// where h or h' is infinite, in the first two steps and the last, it is of order 1, and so it is
/// where h is longer than 5/2 h': far beyond the two points that it goes through, a line says
/// nothing.
///
/// With fresh noise a part of what earlier steps did wrong goes with the noise that is replaced;
/// steps that shrink towards the data (TimeGrid::shifted) suit it. It is an ode::StochasticStepper,
/// whatever eta: an integration gives it the source of its noise, the Sampler one that follows the
/// Rng given to `sample`. A model that is a velocity of another path does not compile with it; take
/// it through `Rescheduled`. Throws OptionError unless 0 <= eta <= 1, and for steps that do not go
/// forward within [0, 1]. Times and eta may be off by roundings (1e-12).
template <int Order = 2>
class DpmSolver {
  static_assert(Order >= 1 && Order <= 3, "flowmatch: DpmSolver is of order 1, 2 or 3");

 public:
  static constexpr int order = Order;  ///< of its error, with eta 0
  static constexpr int stages = 1;     ///< evaluations a step
  static constexpr std::string_view name = Order == 1   ? "dpm_solver_1"
                                           : Order == 2 ? "dpm_solver_2"
                                                        : "dpm_solver_3";  ///< see `with_method`
  /// Of the path that its steps are right for.
  using scheduler_type = CondOTScheduler;

  /// `eta`: how much noise is fresh, from 0, none, to 1, as in DDPM.
  explicit DpmSolver(double eta = 1) : eta_(std::clamp(eta, 0.0, 1.0)) {
    if (!(eta >= -rounding && eta <= 1 + rounding)) {
      throw OptionError("DPM-Solver with eta " + number_text(eta) + "; choose one in [0, 1]");
    }
  }

  /// Takes x from t to t + dt; w holds the last prediction, `noise` draws.
  template <ode::State X, ode::System<X> F, ode::NoiseSource<X> Noise>
  void step(F& f, ode::Workspace<X>& w, X& x, double t, double dt, Noise& noise) const {
    using Traits = ode::state_traits<X>;
    // Beside an end lambda would be large and say nothing.
    const auto [begin, s] = detail::forward_step(name, t, dt);
    t = begin;
    w.go_on_at(t, dt);
    if (w.k.empty()) w.k.resize(1);
    ode::evaluate(f, w, x, t, 0);
    const double forward[1] = {1 - t};
    Traits::combine(w.stage, x, forward, std::span<const X>(w.k).first(1));  // x_1
    // Quotients of a smaller number by a larger one, and below sums of what is not negative: right
    // however the compiler contracts them.
    const double decay = (t / s) * ((1 - s) / (1 - t));  // e^-h
    const double kept = std::sqrt((1 - eta_) * (1 + eta_) + (eta_ * decay) * (eta_ * decay));
    const double sigma = eta_ * (1 - s) * std::sqrt((1 - decay) * (1 + decay));
    const double old = kept * (1 - s) / (1 - t);
    const double data = s - old * t;
    // x_s = old x + data x_1 + first (x_1 - x_1') + second (x_1' - x_1'') + sigma z, as x plus what
    // changes.
    const auto [first, second] = slopes(w, -std::log(decay), s, old * t / s, data);
    std::array<X, 5> parts{x, w.stage, {}, {}, {}};
    std::array<double, 5> weights{old - 1, data + first, 0, 0, 0};
    std::size_t count = 2;
    if (first != 0) {
      parts[count] = w.history[0];
      weights[count++] = second - first;
    }
    if (second != 0) {
      parts[count] = w.history[1];
      weights[count++] = -second;
    }
    if (sigma > 0) {
      parts[count] = noise(std::as_const(x));
      weights[count++] = sigma;
    }
    Traits::combine(w.next, x, std::span(weights).first(count),
                    std::span<const X>(parts).first(count));
    // The oldest prediction's memory takes the next one.
    if constexpr (Order > 1) {
      std::rotate(w.history.begin(), w.history.end() - 1, w.history.end());
      std::swap(w.history.front(), w.stage);
      w.past = std::min<std::int64_t>(w.past + 1, Order - 1);
    }
    std::swap(x, w.next);
    w.t = t + dt;
  }

 private:
  static constexpr double rounding = detail::time_rounding;

  struct Slopes {
    double first = 0;   // of x_1 - x_1'
    double second = 0;  // of x_1' - x_1''
  };
  /// What the predictions before add to a step of length h in lambda that ends at s. Of x_t a share
  /// `kept` is left in units of the data's.
  template <class X>
  static Slopes slopes(ode::Workspace<X>& w, double h, double s, double kept, double data) {
    if constexpr (Order == 1) return {};
    w.history.resize(Order - 1);
    w.spans.resize(Order);
    std::rotate(w.spans.begin(), w.spans.end() - 1, w.spans.end());
    w.spans[0] = h;
    const double last = w.spans[1];
    if (w.past < 1 || !std::isfinite(h) || !(h <= 2.5 * last)) return {};
    if constexpr (Order == 3) {
      const double before = w.spans[2];
      if (w.past >= 2 && last <= 2.5 * before) {
        const double r0 = last / h, r1 = before / h;
        const double all = -std::log(kept);  // h, and what fresh noise replaces
        const double phi_2 = std::expm1(-all) / all + 1;
        const double phi_3 = phi_2 / all - 0.5;
        return {s * (phi_2 * (1 + r0 / (r0 + r1)) - phi_3 / (r0 + r1)) / r0,
                -s * (phi_2 * r0 - phi_3) / ((r0 + r1) * r1)};
      }
    }
    return {data * h / (2 * last), 0};
  }

  double eta_;
};

}}  // namespace flowmatch
