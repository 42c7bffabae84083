#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <string>

#include "flowmatch/core/error.hpp"
#include "flowmatch/ode/state.hpp"

namespace flowmatch::inline v0::ode {

/// How an adaptive solve goes about it.
struct AdaptiveOptions {
  double rtol = 1e-5;
  double atol = 1e-5;
  ErrorNorm norm = ErrorNorm::rms;
  double first_step = 0;  ///< 0: found by the solver
  double min_step = 0;    ///< smaller steps are an error
  double max_step = std::numeric_limits<double>::infinity();
  std::int64_t max_steps = 100000;  ///< tried steps, accepted or not

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
  }
};

/// A step-size rule's answer.
struct StepDecision {
  bool accept;
  double factor;  ///< next step / this step
};

/// A step-size rule on plain numbers.
/// 1. `c(error, order)` with the error in units of the tolerance gives a StepDecision; it may
/// remember earlier errors.
template <class C>
concept StepController = std::copyable<C> && requires(C& c, double error, int order) {
  { c(error, order) } -> std::same_as<StepDecision>;
};

/// Integral control, with torchdiffeq's numbers: factor = safety error^(-1/order), between
/// min_factor and max_factor; never below 1 after an accepted step (Hairer, Nørsett & Wanner 1993,
/// eq. II.4.13).
struct IntegralController {
  double safety = 0.9;
  double min_factor = 0.2;
  double max_factor = 10;

  StepDecision operator()(double error, int order) const {
    if (error == 0) return {true, max_factor};
    const bool accept = error <= 1;
    const double factor = safety * std::pow(error, -1.0 / order);
    return {accept,
            std::clamp(factor, accept ? std::max(1.0, min_factor) : min_factor, max_factor)};
  }
};

/// Proportional-integral control: factor = safety error^(-alpha/order) previous^(beta/order).
/// Smoother step sizes on mildly stiff problems (Gustafsson 1991; Hairer & Wanner 1996, eq.
/// IV.2.43).
struct PIController {
  double alpha = 0.7;
  double beta = 0.4;
  double safety = 0.9;
  double min_factor = 0.2;
  double max_factor = 10;
  double previous = 1;

  StepDecision operator()(double error, int order) {
    const double bounded = std::max(error, 1e-10);
    if (!(error <= 1)) {
      return {false, std::clamp(safety * std::pow(bounded, -1.0 / order), min_factor, 1.0)};
    }
    const double factor =
        safety * std::pow(bounded, -alpha / order) * std::pow(previous, beta / order);
    previous = std::max(error, 1e-4);
    return {true, std::clamp(factor, min_factor, max_factor)};
  }
};

}  // namespace flowmatch::inline v0::ode
