#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/ode/state.hpp"

namespace flowmatch { inline namespace v0 { namespace ode {

/// What happens when a solve has tried max_steps steps.
enum class AtLimit {
  fail,  ///< SolverError
  stop,  ///< the state where it got to, with Status::step_limit
};

/// How an adaptive solve goes about it.
struct AdaptiveOptions {
  double rtol = 1e-5;               ///< relative tolerance
  double atol = 1e-5;               ///< absolute tolerance
  ErrorNorm norm = ErrorNorm::rms;  ///< how the elements of the error are joined
  double first_step = 0;            ///< 0: found by the solver
  double min_step = 0;              ///< smaller steps are an error
  double max_step = std::numeric_limits<double>::infinity();  ///< the largest step
  std::int64_t max_steps = 100000;                            ///< tried steps, accepted or not
  AtLimit at_limit = AtLimit::fail;                           ///< what happens at the step limit
  /// Where the right-hand side jumps: steps end there and start anew, and no evaluation is made at
  /// the jump itself, but next to it on the step's own side, also where a solve begins or ends
  /// there. Times outside the solve do not matter.
  std::vector<double> jumps{};

  /// Throws OptionError naming what is out of range.
  void validate() const {
    const auto check = [](const char* name, double value, bool good, const char* remedy) {
      if (!good)
        throw OptionError(std::string(name) + " is " + number_text(value) + "; choose " + remedy);
    };
    check("rtol", rtol, std::isfinite(rtol) && rtol >= 0,
          "a finite one of at least 0, such as 1e-5");
    check("atol", atol, std::isfinite(atol) && atol >= 0,
          "a finite one of at least 0, such as 1e-5");
    check("rtol + atol", rtol + atol, rtol + atol > 0, "at least one of them above 0");
    check("first_step", first_step, std::isfinite(first_step) && first_step >= 0,
          "a size above 0, or 0 for automatic");
    check("min_step", min_step, std::isfinite(min_step) && min_step >= 0,
          "a finite one of at least 0");
    check("max_step", max_step, max_step > 0 && max_step >= min_step,
          "one above 0 and not below min_step");
    check("max_steps", static_cast<double>(max_steps), max_steps >= 1, "at least 1");
    for (const double jump : jumps) check("a jump", jump, std::isfinite(jump), "a finite time");
  }
};

/// A step-size rule's answer.
struct StepDecision {
  bool accept;    ///< whether the step counts
  double factor;  ///< next step / this step
};

/// A step-size rule on plain numbers.
/// 1. `c(error, order)` with the error in units of the tolerance gives a StepDecision; it may
/// remember earlier errors.
template <class C>
concept StepController = std::copyable<C> && requires(C& c, double error, int order) {
  { c(error, order) } -> std::same_as<StepDecision>;
};

namespace detail {

/// What is wrong where the error of a step is no number.
inline const char* not_finite(const AdaptiveOptions& options) {
  return options.atol > 0 ? "the model's output is NaN or infinite; check the model and its input"
                          : "the error is NaN or infinite; with atol = 0 no element of x may be 0: "
                            "choose an atol "
                            "above 0, or check the model and its input";
}

/// A first step size (Hairer, Nørsett & Wanner 1993, II.4) from norms in units of the tolerance: d0
/// of x, d1 of its derivative, and d2 of the derivative's rate of change over the trial step h0.
inline double trial_step(double d0, double d1, double span) {
  return std::min(d0 < 1e-5 || d1 < 1e-5 ? 1e-6 : 0.01 * d0 / d1, span);
}
inline double first_step_size(double d1, double d2, double h0, int order, double span) {
  const double largest = std::max(d1, d2);
  const double h1 =
      largest <= 1e-15 ? std::max(1e-6, h0 * 1e-3) : std::pow(0.01 / largest, 1.0 / order);
  return std::min({100 * h0, h1, span});
}

/// Whether a step of this size goes all of what is `left` to a time where steps end. One up to 1 %
/// longer saves a sliver of a step (as in Hairer's dopri5.f); max_step holds to rounding.
inline bool arrives(double left, double size, double max_step) {
  return left <= std::min(1.01 * size, (1 + 1e-12) * max_step);
}

}  // namespace detail

/// Proportional, integral and derivative control of the step size:
///   factor = safety e_n^(-(p + i + d)/order) e_(n-1)^((p + 2 d)/order) e_(n-2)^(-d/order),
/// kept between min_factor and max_factor; e_n is the error of accepted step n. A rejected step
/// shrinks by integral control and is not remembered (Gustafsson 1991; Söderlind 2003).
///
/// The default is integral control with torchdiffeq's numbers (Hairer, Nørsett & Wanner 1993, eq.
/// II.4.13), where an accepted step never makes the next one smaller. `pi_controller()` makes
/// smoother steps on mildly stiff problems.
struct PIDController {
  double proportional = 0;         ///< p of the formula
  double integral = 1;             ///< i of the formula
  double derivative = 0;           ///< d of the formula
  double safety = 0.9;             ///< of the formula, for errors are estimates
  double min_factor = 0.2;         ///< the least factor
  double max_factor = 10;          ///< the greatest factor
  double min_factor_accepted = 1;  ///< after an accepted step
  double previous = 1;             ///< e_(n-1)
  double before = 1;               ///< e_(n-2)

  /// What follows from the `error` of a step of a method of this `order`.
  StepDecision operator()(double error, int order) {
    const double k = 1.0 / order;
    if (!(error <= 1)) {
      const double factor = safety * std::pow(error, -k);
      return {false, std::isnan(factor) ? min_factor : std::clamp(factor, min_factor, 1.0)};
    }
    const double bounded = std::max(error, 1e-10);
    double factor = safety * std::pow(bounded, -(proportional + integral + derivative) * k);
    if (proportional != 0 || derivative != 0) {
      factor *= std::pow(previous, (proportional + 2 * derivative) * k) *
                std::pow(before, -derivative * k);
      before = previous;
      previous = std::max(error, 1e-4);
    }
    return {true, std::clamp(factor, min_factor_accepted, max_factor)};
  }
};

/// Proportional-integral control with alpha = 0.7 and beta = 0.4 (Hairer & Wanner 1996, eq.
/// IV.2.43).
inline PIDController pi_controller() {
  return {.proportional = 0.4, .integral = 0.3, .min_factor_accepted = 0.2};
}

}}}  // namespace flowmatch::ode
