#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numbers>
#include <optional>
#include <string>

#include "flowmatch/core/error.hpp"

namespace flowmatch { inline namespace v0 {

/// What a schedule says for a step: a factor on the run's learning rate and, for some schedules, a
/// momentum.
struct Rates {
  double factor = 1;                 ///< on the run's learning rate
  std::optional<double> momentum{};  ///< Adam: beta1
};

/// A learning-rate schedule: a pure function of the step (from 0) and the number of steps in the
/// run, so that a resumed run needs nothing but its step count. Make one with `constant()`,
/// `one_cycle()`, `cosine_annealing()`, `warmup_constant()`, or from any function.
struct LearningRateSchedule {
  std::string description;  ///< kept in checkpoints
  std::function<Rates(std::int64_t step, std::int64_t total_steps)>
      at;  ///< what it says for a step
};

/// The learning rate as it is.
inline LearningRateSchedule constant() {
  return {"constant", [](std::int64_t, std::int64_t) { return Rates{}; }};
}

/// From 1 down to `final_factor` along half a cosine (Loshchilov & Hutter 2017, eq. 5, without
/// restarts), after `warmup_steps` of linear increase.
inline LearningRateSchedule cosine_annealing(std::int64_t warmup_steps = 0,
                                             double final_factor = 0) {
  if (warmup_steps < 0 || !(final_factor >= 0 && final_factor <= 1)) {
    throw OptionError(text_of("a cosine schedule with ", warmup_steps, " warm-up steps down to ",
                              final_factor,
                              "; choose at least 0 steps and a final factor in [0, 1]"));
  }
  return {text_of("cosine warmup ", warmup_steps, " final ", final_factor),
          [=](std::int64_t step, std::int64_t total) {
            if (step < warmup_steps) {
              return Rates{static_cast<double>(step + 1) / static_cast<double>(warmup_steps)};
            }
            const double span =
                static_cast<double>(std::max<std::int64_t>(total - 1 - warmup_steps, 1));
            const double done = std::min(1.0, static_cast<double>(step - warmup_steps) / span);
            return Rates{final_factor +
                         (1 - final_factor) * (1 + std::cos(std::numbers::pi * done)) / 2};
          }};
}

/// A linear increase over `steps`, then constant.
inline LearningRateSchedule warmup_constant(std::int64_t steps) {
  if (steps < 0) {
    throw OptionError(text_of("a warm-up of ", steps, " steps; choose at least 0"));
  }
  return {text_of("warmup ", steps), [=](std::int64_t step, std::int64_t) {
            return Rates{step < steps ? static_cast<double>(step + 1) / static_cast<double>(steps)
                                      : 1.0};
          }};
}

/// The one-cycle policy's numbers, with PyTorch's names and defaults. The run's learning rate is
/// the maximum.
struct OneCycleSettings {
  double pct_start = 0.3;         ///< share of the steps that the increase takes
  double div_factor = 25;         ///< maximum / first learning rate
  double final_div_factor = 1e4;  ///< first / last learning rate
  bool cycle_momentum = true;     ///< momentum (Adam: beta1) swings against the learning rate
  double base_momentum = 0.85;    ///< at the maximum learning rate
  double max_momentum = 0.95;     ///< at the first and last
  bool three_phase = false;       ///< down to the first rate as fast as up, then to the last
  bool linear = false;            ///< straight lines instead of cosines
};

/// The one-cycle policy (Smith & Topin 2018), step for step as torch.optim.lr_scheduler.OneCycleLR.
/// Throws OptionError for settings out of range.
inline LearningRateSchedule one_cycle(OneCycleSettings s = {}) {
  const auto factor = [](double f) { return f > 0 && std::isfinite(f); };
  const auto momentum = [](double m) { return m >= 0 && m < 1; };
  if (!(s.pct_start > 0 && s.pct_start < 1) || !factor(s.div_factor) ||
      !factor(s.final_div_factor) || !momentum(s.base_momentum) || !momentum(s.max_momentum)) {
    throw OptionError(text_of(
        "one-cycle with pct_start ", s.pct_start, ", div_factor ", s.div_factor,
        ", final_div_factor ", s.final_div_factor, ", momenta ", s.base_momentum, " and ",
        s.max_momentum, "; choose pct_start in (0, 1), finite factors above 0, momenta in [0, 1)"));
  }
  const std::string description = text_of(
      "one-cycle pct_start ", s.pct_start, " div ", s.div_factor, " final_div ", s.final_div_factor,
      " momentum ", s.cycle_momentum ? text_of(s.base_momentum, " to ", s.max_momentum) : "fixed",
      s.three_phase ? " three-phase" : "", s.linear ? " linear" : "");
  const auto at = [s](std::int64_t step, std::int64_t total_steps) {
    const double first = 1 / s.div_factor;
    const double last = first / s.final_div_factor;
    const double total = static_cast<double>(total_steps);
    struct Phase {
      double end, from, to, momentum_from, momentum_to;
    };
    // Where a phase ends: 0.1 of 10 steps is one step, whatever the product's roundings.
    const auto end = [&](double steps) {
      const double whole = std::round(steps);
      return std::abs(steps - whole) < 1e-9 * total ? whole : steps;
    };
    const double up = end(s.pct_start * total) - 1;
    const double down = end(2 * s.pct_start * total) - 2;
    const Phase rise{up, first, 1, s.max_momentum, s.base_momentum};
    const Phase fall{total - 1, 1, last, s.base_momentum, s.max_momentum};
    const Phase back{down, 1, first, s.base_momentum, s.max_momentum};
    const Phase out{total - 1, first, last, s.max_momentum, s.max_momentum};

    const double now = std::min(static_cast<double>(step), total - 1);
    double begin = 0;
    Phase phase = rise;
    if (now > rise.end) {
      begin = rise.end;
      phase = s.three_phase ? back : fall;
      if (s.three_phase && now > back.end) {
        begin = back.end;
        phase = out;
      }
    }
    const double done = phase.end > begin ? (now - begin) / (phase.end - begin) : 1;
    const auto between = [&](double from, double to) {
      return s.linear ? from + (to - from) * done
                      : to + (from - to) / 2 * (1 + std::cos(std::numbers::pi * done));
    };
    return Rates{between(phase.from, phase.to),
                 s.cycle_momentum ? std::optional(between(phase.momentum_from, phase.momentum_to))
                                  : std::nullopt};
  };
  return {description, at};
}

/// The name of version 0.1.
using Schedule [[deprecated("flowmatch: it is LearningRateSchedule now")]] = LearningRateSchedule;
/// The name of version 0.1, with the same `warmup_steps` and `final_factor`.
[[deprecated("flowmatch: it is cosine_annealing now")]] inline LearningRateSchedule cosine(
    std::int64_t warmup_steps = 0, double final_factor = 0) {
  return cosine_annealing(warmup_steps, final_factor);
}

}}  // namespace flowmatch
