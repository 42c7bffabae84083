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

namespace flowmatch::inline v0 {

/// Euler's method with fresh noise, for a velocity of the linear path: a method for the Sampler. A
/// step from t to s takes the ends of the path that the velocity points at, and puts new noise in
/// the place of a part of the old:
///   x_1 = x_t + (1 - t) v,  x_0 = x_t - t v,
///   x_s = s x_1 + sqrt((1 - s)^2 - sigma^2) x_0 + sigma z,  z ~ N(0, I),
///   sigma = eta (1 - s) sqrt(1 - (t (1 - s) / (s (1 - t)))^2).
/// This is DDIM's eta (Song, Meng & Ermon 2021, eq. 16) on the straight path: 0 is Euler's method
/// itself, 1 the ancestral sampling of DDPM. A part of what earlier steps did wrong goes with the
/// noise that is replaced; few steps do better without.
///
/// Copies share one generator, whose draws depend on the order of batches: with
/// SamplerOptions::parallel samples differ from run to run. Throws OptionError unless 0 <= eta <=
/// 1, and for steps that do not go forward within [0, 1].
class AncestralEuler {
 public:
  static constexpr int order = 1;
  static constexpr int stages = 1;
  static constexpr std::string_view name = "ancestral_euler";

  explicit AncestralEuler(Rng rng, double eta = 1) : rng_(std::move(rng)), eta_(eta) {
    if (!(eta >= 0 && eta <= 1)) {
      throw OptionError("ancestral sampling with eta " + number_text(eta) +
                        "; choose one in [0, 1]");
    }
  }

  template <class F>
  void step(F& f, ode::Workspace<at::Tensor>& w, at::Tensor& x, double t, double dt) const {
    const double s = std::min(t + dt, 1.0);
    if (!(t >= 0 && s > t)) {
      throw OptionError("ancestral sampling goes from noise at 0 to data at 1, not from " +
                        number_text(t) + " to " + number_text(t + dt));
    }
    if (w.k.empty()) w.k.resize(1);
    ode::evaluate(f, w, x, t, 0);
    const double kept = t * (1 - s) / (s * (1 - t));  // of the old noise, beside the new
    const double sigma = eta_ * (1 - s) * std::sqrt(1 - kept * kept);
    const double old = std::sqrt((1 - s) * (1 - s) - sigma * sigma);
    x = (s + old) * x + (s * (1 - t) - old * t) * w.k[0];
    if (sigma > 0) {
      Rng rng = rng_;  // shares the generator
      x = x + sigma * rng.normal(x.sizes(), x.options()).to(x.device());
    }
  }

 private:
  Rng rng_;
  double eta_;
};

}  // namespace flowmatch::inline v0
