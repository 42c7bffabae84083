#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

namespace support {

enum class Scale { linear, logarithmic };

/// A number as it stands at a tick: four digits.
inline std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

/// A step of 1, 2 or 5 times a power of ten that divides the span into about `ticks` parts.
inline double tick_step(double span, int ticks) {
  const double raw = span / ticks;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  for (const double nice : {1.0, 2.0, 5.0}) {
    if (raw <= nice * power) return nice * power;
  }
  return 10 * power;
}

/// One axis of a plot: the range of what is shown, where it goes, and its ticks. Include the values
/// that are `shown`, then close.
struct Axis {
  Scale scale = Scale::linear;
  double low = std::numeric_limits<double>::infinity();
  double high = -low;

  double place(double value) const { return scale == Scale::linear ? value : std::log10(value); }
  /// Not so where the value is not finite, or on a logarithmic scale not positive.
  bool shown(double value) const { return std::isfinite(place(value)); }
  void include(double value) {
    low = std::min(low, place(value));
    high = std::max(high, place(value));
  }
  void close() {
    if (low > high) low = 0;  // nothing was included
    if (!(high > low)) high = low + 1;
  }
  /// 0 at the axis' beginning, 1 at its end.
  double fraction(double value) const { return (place(value) - low) / (high - low); }
  std::vector<double> ticks(int about) const {
    std::vector<double> values;
    const double step = tick_step(high - low, about);
    if (scale == Scale::linear || high - low < 1) {  // less than a decade: evenly spaced values
      const double first = scale == Scale::linear ? low : std::pow(10, low);
      const double last = scale == Scale::linear ? high : std::pow(10, high);
      const double even = tick_step(last - first, about);
      for (double k = std::ceil(first / even - 1e-9) + 0.0; k * even <= last + 1e-9 * even; ++k)
        values.push_back(k * even);
    } else {
      for (double decade = std::floor(low); decade <= high; decade += std::ceil(step)) {
        for (const double nice : {1.0, 2.0, 5.0}) {
          const double value = nice * std::pow(10, decade);
          if ((nice > 1 && step > 0.5) || place(value) < low || place(value) > high) continue;
          values.push_back(value);
        }
      }
    }
    return values;
  }
};

}  // namespace support
