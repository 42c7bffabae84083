#pragma once

#include <string>
#include <string_view>

#include "flowmatch/core/error.hpp"

namespace flowmatch { inline namespace v0 { namespace detail {

/// Computed ends may lie a rounding error beside the true ones.
inline constexpr double time_rounding = 1e-12;

/// Where a step from t to t + dt begins and ends, an end of [0, 1] where that is but a rounding
/// away.
struct ForwardStep {
  double t, s;
};

/// That of a solver of the straight path. Throws OptionError unless it goes forward within [0, 1].
inline ForwardStep forward_step(std::string_view name, double t, double dt) {
  if (!(t >= -time_rounding && dt > 0 && t + dt <= 1 + time_rounding)) {
    throw OptionError(std::string(name) + " goes from noise at 0 to data at 1, not from " +
                      number_text(t) + " to " + number_text(t + dt));
  }
  return {t <= time_rounding ? 0 : t, t + dt >= 1 - time_rounding ? 1 : t + dt};
}

}}}  // namespace flowmatch::detail
