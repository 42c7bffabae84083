#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

#include "flowmatch/ode/state.hpp"
#include "flowmatch/ode/stepper.hpp"
#include "flowmatch/path/schedulers.hpp"
#include "flowmatch/sample/forward_step.hpp"

namespace flowmatch { inline namespace v0 {

/// Goes to the data that the velocity points at, and back to the next time with all noise new:
///
///     x_1 = x_t + (1 - t) v,   x_s = s x_1 + (1 - s) z,  z ~ N(0, I).
///
/// For models that were distilled to reach the data from anywhere, in a few steps: multistep
/// consistency sampling (Song et al. 2023, algorithm 1; diffusers' FlowMatchLCMScheduler, and
/// `stochastic_sampling` of its Euler). The step to t = 1 draws no noise. Throws OptionError for
/// steps that do not go forward within [0, 1].
struct Renoise {
  static constexpr int order = 1;                      ///< of its error in distribution
  static constexpr int stages = 1;                     ///< evaluations a step
  static constexpr std::string_view name = "renoise";  ///< the name that `with_method` knows
  /// Of the path that its steps are right for.
  using scheduler_type = CondOTScheduler;

  /// Takes x from t to t + dt.
  template <ode::State X, ode::System<X> F, ode::NoiseSource<X> Noise>
  void step(F& f, ode::Workspace<X>& w, X& x, double t, double dt, Noise& noise) const {
    const double s = detail::forward_step(name, t, dt).s;
    w.go_on_at(t, dt);
    w.k.resize(1);
    ode::evaluate(f, w, x, t, 0);
    const std::array<double, 3> weights{s, s * (1 - t), 1 - s};
    const std::size_t count = s < 1 ? 3 : 2;
    const std::array<X, 3> parts{x, w.k[0], s < 1 ? X(noise(std::as_const(x))) : X{}};
    ode::state_traits<X>::difference(w.next, std::span<const double>(weights).first(count),
                                     std::span<const X>(parts).first(count));
    std::swap(x, w.next);
    w.t = t + dt;
  }
};

}}  // namespace flowmatch
