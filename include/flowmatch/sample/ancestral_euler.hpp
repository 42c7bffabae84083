#pragma once

#include <array>
#include <cmath>
#include <string_view>
#include <utility>

#include "flowmatch/core/error.hpp"
#include "flowmatch/ode/state.hpp"
#include "flowmatch/ode/stepper.hpp"
#include "flowmatch/path/schedulers.hpp"
#include "flowmatch/sample/forward_step.hpp"

namespace flowmatch { inline namespace v0 {

/// The ancestral form of Euler's method for rectified flow, as k-diffusion and ComfyUI have it: a
/// step from t to s goes beyond s, to the noise level (1-s) (1 + eta ((1-s) / (1-t) - 1)), and back
/// to s by new noise of the path:
///
///     x_d = x_t + (d - t) v,   x_s = s/d x_d + s_noise sqrt((1-s)^2 - (1-d)^2 s^2 / d^2) z.
///
/// eta 0 is Euler's method, 1 the most noise; `s_noise` a bit above 1 makes up for what a model
/// smooths. Throws OptionError unless 0 <= eta <= 1 and s_noise is finite and at least 0, and for
/// steps that do not go forward within [0, 1].
class AncestralEuler {
 public:
  static constexpr int order = 1;                              ///< of its error, with eta 0
  static constexpr int stages = 1;                             ///< evaluations a step
  static constexpr std::string_view name = "ancestral_euler";  ///< the name `with_method` knows
  /// Of the path that its steps are right for.
  using scheduler_type = CondOTScheduler;

  /// Of its options.
  explicit AncestralEuler(double eta = 1, double s_noise = 1) : eta_(eta), s_noise_(s_noise) {
    if (!(eta >= 0 && eta <= 1) || !(s_noise >= 0) || !std::isfinite(s_noise)) {
      throw OptionError("ancestral Euler with eta " + number_text(eta) + " and s_noise " +
                        number_text(s_noise) +
                        "; choose eta in [0, 1] and a finite s_noise of at least 0");
    }
  }

  /// Takes x from t to t + dt.
  template <ode::State X, ode::System<X> F, ode::NoiseSource<X> Noise>
  void step(F& f, ode::Workspace<X>& w, X& x, double t, double dt, Noise& noise) const {
    using Traits = ode::state_traits<X>;
    const double s = detail::forward_step(name, t, dt).s;
    w.go_on_at(t, dt);
    w.k.resize(1);
    ode::evaluate(f, w, x, t, 0);
    const double left = 1 - s;
    const double down = left * (1 - eta_ * dt / (1 - t));  // 1 - d
    const std::array<double, 1> forward{1 - down - t};
    Traits::combine(w.next, x, forward, w.k);
    const double back = (1 - left) / (1 - down);
    const double renewed = (left - down * back) * (left + down * back);
    if (left > 0 && renewed > 0 && s_noise_ > 0) {
      const std::array<double, 2> weights{back, s_noise_ * std::sqrt(renewed)};
      const std::array<X, 2> parts{w.next, noise(std::as_const(x))};
      Traits::difference(x, weights, parts);
    } else {
      std::swap(x, w.next);
    }
    w.t = t + dt;
  }

 private:
  double eta_;
  double s_noise_;
};

}}  // namespace flowmatch
