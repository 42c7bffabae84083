#pragma once

#include <string>
#include <string_view>

#include "flowmatch/core/error.hpp"

namespace flowmatch { inline namespace v0 { namespace detail {

/// Computed ends may lie a rounding error beside the true ones.
inline constexpr double time_rounding = 1e-12;

/// Throws OptionError unless a step from t to t + dt goes forward within [0, 1], as solvers of the
/// straight path do.
inline void check_forward(std::string_view name, double t, double dt) {
  if (!(t >= -time_rounding && dt > 0 && t + dt <= 1 + time_rounding)) {
    throw OptionError(std::string(name) + " goes from noise at 0 to data at 1, not from " +
                      number_text(t) + " to " + number_text(t + dt));
  }
}

}}}  // namespace flowmatch::detail
