#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/ode/grid.hpp"
#include "flowmatch/sample/beta_quantile.hpp"

namespace flowmatch { inline namespace v0 {

/// The noise levels sigma = 1 - t that other libraries make their grids of: from `max` down to
/// `min`, n of them, one for each evaluation; `grid()` puts the data, sigma 0, behind them. The
/// schedules are those of k-diffusion and of diffusers' flow-match schedulers, whose default `min`
/// is 0.001. n counts evaluations of a method of one a step.
///
///     fm::Sampler(net, fm::DpmSolver<2>{}, fm::NoiseLevels::linear(20).shifted(3).grid());
///
/// All lie in (0, 1] and fall all the way, so that no step leaves [0, 1] or goes nowhere; and they
/// are shifted once, never twice. Throws OptionError otherwise.
class NoiseLevels {
 public:
  /// The `sigmas` of your own.
  static NoiseLevels of(std::vector<double> sigmas) {
    return NoiseLevels(std::move(sigmas), false);
  }
  /// Evenly from max to min.
  static NoiseLevels linear(std::int64_t n, double min = 0.001, double max = 1) {
    return between(n, min, max, [&](double u) { return max + u * (min - max); });
  }
  /// sigma^(1/rho) evenly (Karras et al. 2022, eq. 5).
  static NoiseLevels karras(std::int64_t n, double min = 0.001, double max = 1, double rho = 7) {
    check_rho(rho);
    const double from = std::pow(max, 1 / rho), to = std::pow(min, 1 / rho);
    return between(n, min, max, [&](double u) { return std::pow(from + u * (to - from), rho); });
  }
  /// log sigma evenly.
  static NoiseLevels exponential(std::int64_t n, double min = 0.001, double max = 1) {
    return polyexponential(n, min, max, 1);
  }
  /// log sigma by the power rho of even numbers, as in k-diffusion; 1 is `exponential`.
  static NoiseLevels polyexponential(std::int64_t n, double min = 0.001, double max = 1,
                                     double rho = 1) {
    check_rho(rho);
    return between(n, min, max,
                   [&](double u) { return min * std::pow(max / min, std::pow(1 - u, rho)); });
  }
  /// The quantiles of a beta distribution: more steps at both ends with its `alpha` and `beta`
  /// below 1 (Lee et al. 2024, "Beta sampling
  /// is all you need").
  static NoiseLevels beta(std::int64_t n, double min = 0.001, double max = 1, double alpha = 0.6,
                          double beta = 0.6) {
    if (!(alpha > 0) || !(beta > 0) || !std::isfinite(alpha) || !std::isfinite(beta)) {
      throw OptionError("noise levels of a beta distribution with " + number_text(alpha) + " and " +
                        number_text(beta) + "; choose finite numbers above 0");
    }
    return between(n, min, max, [&](double u) {
      return min + detail::beta_quantile(1 - u, alpha, beta) * (max - min);
    });
  }

  /// Each moved to s sigma / (1 + (s - 1) sigma): for s > 1 towards the noise, where the steps
  /// become small, as SD3 and its like do for large images (Esser et al. 2024, eq. 23; see
  /// `dynamic_shift`). `TimeGrid::shifted` counts the other way. Once: a second shift throws.
  NoiseLevels shifted(double s) const {
    if (shifted_) {
      throw OptionError("these noise levels are shifted already; multiply the shifts instead");
    }
    if (!(s > 0) || !std::isfinite(s)) {
      throw OptionError("noise levels shifted by " + number_text(s) +
                        "; choose a finite shift above 0");
    }
    std::vector<double> moved;
    for (const double sigma : sigmas_) moved.push_back(s * sigma / (1 + (s - 1) * sigma));
    return NoiseLevels(std::move(moved), true);
  }

  /// 1 - sigma times one number, so that the last level is `terminal`, as LTX-Video does after its
  /// shift. Throws OptionError unless 0 < terminal < 1, and where all levels are 1.
  NoiseLevels stretched(double terminal) const {
    if (!(terminal > 0 && terminal < 1) || sigmas_.back() == 1) {
      throw OptionError("noise levels that end at " + number_text(sigmas_.back()) +
                        " stretched to " + number_text(terminal) + "; choose an end in (0, 1)");
    }
    const double scale = (1 - terminal) / (1 - sigmas_.back());
    std::vector<double> moved;
    for (const double sigma : sigmas_) moved.push_back(1 - (1 - sigma) * scale);
    moved.back() = terminal;
    return NoiseLevels(std::move(moved), shifted_);
  }

  /// The steps at t = 1 - sigma, the last one to the data at t = 1.
  ode::TimeGrid grid() const {
    std::vector<double> times;
    for (const double sigma : sigmas_) times.push_back(1 - sigma);
    times.push_back(1);
    return ode::TimeGrid::nodes(times);
  }

  /// From the first to the last.
  const std::vector<double>& sigmas() const noexcept { return sigmas_; }

 private:
  NoiseLevels(std::vector<double> sigmas, bool shifted)
      : sigmas_(std::move(sigmas)), shifted_(shifted) {
    if (sigmas_.empty()) throw OptionError("no noise levels; give at least one");
    double before = 1 + 1e-12;  // computed from another number, 1 may be off by a rounding
    for (double& sigma : sigmas_) {
      if (!(sigma > 0 && sigma < before)) {
        throw OptionError("a noise level of " + number_text(sigma) + " after " +
                          number_text(std::min(before, 1.0)) +
                          "; they have to fall all the way from at most 1 to above 0");
      }
      sigma = std::min(sigma, 1.0);
      before = sigma;
    }
  }

  static void check_rho(double rho) {
    if (!(rho > 0) || !std::isfinite(rho)) {
      throw OptionError("noise levels with rho " + number_text(rho) +
                        "; choose a finite one above 0");
    }
  }

  /// sigma(u) for u from 0 to 1; both ends exactly.
  template <class F>
  static NoiseLevels between(std::int64_t n, double min, double max, const F& sigma) {
    if (n < 1) throw OptionError(std::to_string(n) + " noise levels; choose at least 1");
    if (!(min > 0 && min < max && max <= 1)) {
      throw OptionError("noise levels from " + number_text(max) + " to " + number_text(min) +
                        "; choose 0 < min < max <= 1");
    }
    std::vector<double> sigmas{max};
    for (std::int64_t i = 1; i < n; ++i) {
      sigmas.push_back(i == n - 1 ? min
                                  : sigma(static_cast<double>(i) / static_cast<double>(n - 1)));
    }
    return NoiseLevels(std::move(sigmas), false);
  }

  std::vector<double> sigmas_;
  bool shifted_;
};

/// The shift e^mu for a picture of so many tokens, as FLUX has it: mu goes evenly from `base` at
/// 256 tokens to `most` at 4,096. Throws OptionError for tokens below 1.
inline double dynamic_shift(double tokens, double base = 0.5, double most = 1.15) {
  if (!(tokens >= 1) || !std::isfinite(tokens)) {
    throw OptionError("a picture of " + number_text(tokens) + " tokens; give at least 1");
  }
  return std::exp(base + (most - base) * (tokens - 256) / (4096 - 256));
}

}}  // namespace flowmatch
