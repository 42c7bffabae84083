#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/ode/stepper.hpp"
#include "flowmatch/solve/tensor_state.hpp"

namespace flowmatch { inline namespace v0 {

/// DPM-Solver++ for a velocity of the linear path, with as much fresh noise as eta says: a method
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
/// where h or h' is infinite, in the first two steps and the last, it is of order 1.
///
/// With fresh noise a part of what earlier steps did wrong goes with the noise that is replaced;
/// steps that shrink towards the data (TimeGrid::shifted) suit it. Copies share one generator,
/// whose draws depend on the order of batches: with SamplerOptions::parallel samples differ from
/// run to run. Throws OptionError unless 0 <= eta <= 1, and for steps that do not go forward within
/// [0, 1].
template <int Order = 2>
class DpmSolver {
  static_assert(Order == 1 || Order == 2, "flowmatch: DpmSolver is of order 1 or 2");

 public:
  static constexpr int order = Order;
  static constexpr int stages = 1;
  static constexpr std::string_view name = Order == 1 ? "dpm_solver_1" : "dpm_solver_2";

  explicit DpmSolver(Rng rng, double eta = 1) : rng_(std::move(rng)), eta_(eta) {
    if (!(eta >= 0 && eta <= 1)) {
      throw OptionError("DPM-Solver with eta " + number_text(eta) + "; choose one in [0, 1]");
    }
  }

  template <class F>
  void step(F& f, ode::Workspace<at::Tensor>& w, at::Tensor& x, double t, double dt) const {
    const double s = std::min(t + dt, 1.0);
    if (!(t >= 0 && s > t)) {
      throw OptionError("DPM-Solver goes from noise at 0 to data at 1, not from " + number_text(t) +
                        " to " + number_text(t + dt));
    }
    if (w.k.empty()) w.k.resize(1);
    ode::evaluate(f, w, x, t, 0);
    at::Tensor x_1 = x + (1 - t) * w.k[0];
    const double decay = t * (1 - s) / (s * (1 - t));  // e^-h
    if constexpr (Order == 2) {
      const double h = -std::log(decay);
      const double ahead = w.past > 0 && std::isfinite(h) ? h / (2 * w.last_dt) : 0;
      w.history.resize(1);
      const at::Tensor before = std::exchange(w.history[0], x_1);
      if (ahead > 0) x_1 = x_1 + ahead * (x_1 - before);
      w.past = 1;
      w.last_dt = h;  // of lambda
    }
    const double sigma = eta_ * (1 - s) * std::sqrt(1 - decay * decay);
    const double old = std::sqrt((1 - s) * (1 - s) - sigma * sigma) / (1 - t);
    x = old * x + (s - old * t) * x_1;
    if (sigma > 0) {
      Rng rng = rng_;  // shares the generator
      x = x + sigma * rng.normal(x.sizes(), x.options()).to(x.device());
    }
  }

 private:
  Rng rng_;
  double eta_;
};

}}  // namespace flowmatch
