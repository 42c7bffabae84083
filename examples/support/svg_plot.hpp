#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "examples/support/axis.hpp"

namespace support {

struct Series {
  std::string name;
  std::vector<double> x;
  std::vector<double> y;
};

/// Lines over a pair of axes. What is not finite (on a logarithmic scale: not positive) is left out
/// and breaks its line.
struct Plot {
  std::vector<Series> series;
  std::string title;
  std::string x_label;
  Scale y_scale = Scale::linear;
  Scale x_scale = Scale::linear;
};

/// A series with at most about `most` points: of each stretch the lowest and the highest stay, so
/// no peak is lost. What is not finite breaks the line, and stays.
Series thinned(const Series& series, std::size_t most);

/// A plot as an SVG figure for an HTML page, with its legend below and its title for those who hear
/// the page. The i-th series has the class s<i>, i below 5, by which the page gives it a colour
/// that goes with its background. Throws flowmatch::ShapeError for a series with unlike x and y.
std::string svg_plot(const Plot& plot);

/// Plots below one another as an SVG file of their own, each under its title and beside its legend.
/// The seventh to twelfth series have the colours of the first six and are dashed. Throws
/// flowmatch::DataError where the file can't be written.
void write_svg(const std::filesystem::path& path, const std::vector<Plot>& plots);

}  // namespace support
