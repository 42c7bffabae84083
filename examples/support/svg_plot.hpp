#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "examples/support/picture.hpp"

namespace support {

/// A series with at most about `most` points: of each stretch the lowest and the highest stay, so
/// no peak is lost. What is not finite breaks the line, and stays.
Series thinned(const Series& series, std::size_t most);

/// line_plot as an SVG figure for an HTML page, with its legend below. The i-th series has the
/// class s<i>, i below 5, by which the page gives it a colour that goes with its background; the
/// series' own is not used. Throws flowmatch::ShapeError for a series with unlike x and y.
std::string svg_plot(const std::vector<Series>& series, const std::string& title,
                     const std::string& x_label, Scale y_scale = Scale::linear);

}  // namespace support
