#pragma once

#include <array>
#include <span>
#include <string_view>

#include "flowmatch/ode/state.hpp"
#include "flowmatch/ode/stepper.hpp"

namespace flowmatch { inline namespace v0 {

/// A step by the average velocity of a `FlowMap`: x += dt u(x, t, t + dt), exact for a map that is,
/// however long the step (Geng et al. 2025, eq. 12). The system is told both ends of the step: it
/// needs `f.over(x, t, r)`, which the Sampler has for a FlowMap.
struct FlowMapStep {
  static constexpr int order = 1;                       ///< of a map whose average is its velocity
  static constexpr int stages = 1;                      ///< evaluations a step
  static constexpr std::string_view name = "flow_map";  ///< for messages

  /// Takes x from t to t + dt.
  template <ode::State X, ode::System<X> F>
  void step(F& f, ode::Workspace<X>& w, X& x, double t, double dt) const {
    static_assert(
        requires { f.over(x, t, t); },
        "flowmatch: this method needs a model of average velocities; give the Sampler a FlowMap");
    w.go_on_at(t, dt);
    w.k.resize(1);
    ++w.evaluations;
    w.k[0] = f.over(x, t, t + dt);
    ode::state_traits<X>::own(w.k[0], x);
    const std::array<double, 1> forward{dt};
    ode::state_traits<X>::combine(x, x, forward, std::span<const X>(w.k));
    w.t = t + dt;
  }
};

}}  // namespace flowmatch
