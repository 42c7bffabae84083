#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "flowmatch/core/error.hpp"
#include "flowmatch/ode/state.hpp"
#include "flowmatch/ode/stepper.hpp"
#include "flowmatch/path/schedulers.hpp"
#include "flowmatch/sample/forward_step.hpp"

namespace flowmatch { inline namespace v0 {

/// g(t)^2 = 2 scale (1 - t): the drift's change, g^2 / 2 times the score, is scale times the noise
/// that the model sees, finite at all times. Throws OptionError unless scale is finite and above 0.
class VanishingDiffusion {
 public:
  /// Of a scale.
  explicit VanishingDiffusion(double scale = 1) : scale_(scale) {
    if (!(scale > 0) || !std::isfinite(scale)) {
      throw OptionError("a diffusion of scale " + number_text(scale) +
                        "; choose a finite one above 0, or a solver of the ODE for none");
    }
  }
  /// g(t).
  double operator()(double t) const { return std::sqrt(2 * scale_ * std::max(1 - t, 0.0)); }

 private:
  double scale_;
};

/// The same g at all times, as a Schrödinger bridge has it. Throws OptionError unless it is finite
/// and above 0.
class ConstantDiffusion {
 public:
  /// Of g = `sigma`.
  explicit ConstantDiffusion(double sigma) : sigma_(sigma) {
    if (!(sigma > 0) || !std::isfinite(sigma)) {
      throw OptionError("a diffusion of " + number_text(sigma) +
                        "; choose a finite one above 0, or a solver of the ODE for none");
    }
  }
  /// g.
  double operator()(double) const { return sigma_; }

 private:
  double sigma_;
};

namespace detail {

/// A system that knows its score, a FlowAndScore's.
template <class F, class X>
concept ScoredSystem = requires(F& f, const X& x) {
  f.velocity_and_score(x, 0.0);
};

/// What both solvers of the SDE share: its drift and its noise.
template <class Diffusion>
class SdeStep {
 public:
  using scheduler_type = CondOTScheduler;
  static constexpr bool takes_score = true;

  explicit SdeStep(Diffusion diffusion) : diffusion_(std::move(diffusion)) {}

 protected:
  /// Whether a step goes all the way: the last one, which draws no noise. Throws OptionError for
  /// steps that leave [0, 1], or go back where the score is that of the straight path from noise.
  template <class X, class F>
  static bool arrives(std::string_view name, double t, double dt) {
    if constexpr (ScoredSystem<F, X>) {
      const double first = std::min(t, t + dt), last = std::max(t, t + dt);
      if (!(first >= -time_rounding && last <= 1 + time_rounding && dt != 0)) {
        throw OptionError(std::string(name) + " goes between 0 and 1, not from " + number_text(t) +
                          " to " + number_text(t + dt));
      }
      return dt > 0 ? last >= 1 - time_rounding : first <= time_rounding;
    } else {
      return forward_step(name, t, dt).s == 1;
    }
  }
  double g(double t) const {
    const double value = diffusion_(t);
    if (!(value >= 0) || !std::isfinite(value)) {
      throw OptionError("the diffusion is " + number_text(value) + " at t = " + number_text(t) +
                        "; give one that is finite and at least 0 for t in [0, 1)");
    }
    return value;
  }
  /// w.k[i] = v + g^2 / 2 score, with v = f(x, t) and the score -(x - t v) / (1 - t), t < 1, or f's
  /// own; in steps back, of dt < 0, v - g^2 / 2 score.
  template <class X, class F>
  void drift(F& f, ode::Workspace<X>& w, const X& x, double t, double dt, std::size_t i) const {
    using Traits = ode::state_traits<X>;
    if constexpr (ScoredSystem<F, X>) {
      ++w.evaluations;
      auto [velocity, score] = f.velocity_and_score(x, t);
      const std::array<double, 1> part{std::copysign(g(t) * g(t) / 2, dt)};
      w.k[i] = std::move(velocity);
      std::array<X, 1> scores{std::move(score)};
      Traits::own(w.k[i], x);
      Traits::own(scores[0], x);
      Traits::combine(w.k[i], w.k[i], part, scores);
    } else {
      ode::evaluate(f, w, x, t, i);
      const double part = g(t) * g(t) / (2 * (1 - t));
      const std::array<double, 2> weights{1 + part * t, -part};
      const std::array<X, 2> parts{w.k[i], x};
      Traits::difference(w.k[i], weights, parts);
    }
  }
  /// out = x + g sqrt|dt| z.
  template <class X, class Noise>
  static void diffuse(X& out, const X& x, double g, double dt, Noise& noise) {
    const std::array<double, 1> weight{g * std::sqrt(std::abs(dt))};
    const std::array<X, 1> z{noise(std::as_const(x))};
    ode::state_traits<X>::combine(out, x, weight, z);
  }

 private:
  Diffusion diffusion_;
};

}  // namespace detail

/// The Euler–Maruyama method for the SDE that has the same marginals as the flow along the straight
/// path, whatever its diffusion g(t) (Song et al. 2021, section 4.3; Ma et al. 2024, SiT, eq. 5):
///
///     dx = [v + g^2 / 2 score] dt + g dW,     score(x, t) = -(x - t v) / (1 - t).
///
/// New noise takes away a part of what earlier steps did wrong; too much asks for more steps. The
/// step that ends at t = 1 draws no noise and goes along v. It is an ode::StochasticStepper. g is
/// any callable of t; `VanishingDiffusion(1)` by default.
///
/// Of a `FlowAndScore` the score is the network's, on whatever path and from whatever source, and
/// steps go back from 1 to 0, too, by dx = [v - g^2 / 2 score] dt + g dW; the step that ends at 0
/// is along v then. Throws OptionError for a g that is negative or not finite, and for steps that
/// do not go forward within [0, 1], or leave it.
template <std::invocable<double> Diffusion = VanishingDiffusion>
class EulerMaruyama : public detail::SdeStep<Diffusion> {
 public:
  static constexpr int order = 1;                             ///< of its error in distribution
  static constexpr int stages = 1;                            ///< evaluations a step
  static constexpr std::string_view name = "euler_maruyama";  ///< the name `with_method` knows

  /// Of a diffusion g(t).
  explicit EulerMaruyama(Diffusion diffusion = Diffusion())
      : detail::SdeStep<Diffusion>(std::move(diffusion)) {}

  /// Takes x from t to t + dt.
  template <ode::State X, ode::System<X> F, ode::NoiseSource<X> Noise>
  void step(F& f, ode::Workspace<X>& w, X& x, double t, double dt, Noise& noise) const {
    using Traits = ode::state_traits<X>;
    const bool last = this->template arrives<X, F>(name, t, dt);
    w.go_on_at(t, dt);
    w.k.resize(1);
    const std::array<double, 1> forward{dt};
    if (last) {
      ode::evaluate(f, w, x, t, 0);
      Traits::combine(x, x, forward, w.k);
    } else {
      this->drift(f, w, x, t, dt, 0);
      this->diffuse(w.next, x, this->g(t), dt, noise);
      Traits::combine(x, w.next, forward, w.k);
    }
    w.t = t + dt;
  }
};

/// Heun's method for the SDE of `EulerMaruyama`, of second order in distribution, at two
/// evaluations a step: the mean of the drift at both ends of an Euler–Maruyama step, with the same
/// noise (Kloeden & Platen 1992, section 15.1, for noise that does not depend on x). The step that
/// ends at t = 1 is Euler's along v.
template <std::invocable<double> Diffusion = VanishingDiffusion>
class SdeHeun : public detail::SdeStep<Diffusion> {
 public:
  static constexpr int order = 2;                       ///< of its error in distribution
  static constexpr int stages = 2;                      ///< evaluations a step
  static constexpr std::string_view name = "sde_heun";  ///< the name that `with_method` knows

  /// Of a diffusion g(t).
  explicit SdeHeun(Diffusion diffusion = Diffusion())
      : detail::SdeStep<Diffusion>(std::move(diffusion)) {}

  /// Takes x from t to t + dt.
  template <ode::State X, ode::System<X> F, ode::NoiseSource<X> Noise>
  void step(F& f, ode::Workspace<X>& w, X& x, double t, double dt, Noise& noise) const {
    using Traits = ode::state_traits<X>;
    const bool last = this->template arrives<X, F>(name, t, dt);
    w.go_on_at(t, dt);
    w.k.resize(2);
    const std::array<double, 1> forward{dt};
    const std::span<const X> first = std::span<const X>(w.k).first(1);
    if (last) {
      ode::evaluate(f, w, x, t, 0);
      Traits::combine(x, x, forward, first);
    } else {
      // The variance of the noise by the trapezoidal rule, too.
      const double g = std::hypot(this->g(t), this->g(t + dt)) / std::sqrt(2.0);
      this->drift(f, w, x, t, dt, 0);
      this->diffuse(w.next, x, g, dt, noise);
      Traits::combine(w.stage, w.next, forward, first);
      this->drift(f, w, w.stage, t + dt, dt, 1);
      const std::array<double, 2> halves{dt / 2, dt / 2};
      Traits::combine(x, w.next, halves, std::span<const X>(w.k));
    }
    w.t = t + dt;
  }
};

}}  // namespace flowmatch
