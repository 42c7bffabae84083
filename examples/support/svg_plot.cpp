#include "examples/support/svg_plot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ostream>
#include <string_view>

#include "examples/support/html.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/io/write_file.hpp"

namespace support {

namespace {

constexpr double width = 900, height = 400, left = 64, right = 16, top = 12, bottom = 48;
constexpr double heading = 40, legend = 200;  // of a file: above and beside its plots

constexpr std::string_view file_style = R"css(
text { font: 15px system-ui, sans-serif; fill: #3c424a; } text.title { font-weight: 600; }
.grid { stroke: #d9dce1; } .axis { stroke: #5f6670; }
path { fill: none; stroke-width: 2; stroke-linejoin: round; }
path.s0, path.s6 { stroke: #1f5fb4; } circle.s0, circle.s6 { fill: #1f5fb4; }
path.s1, path.s7 { stroke: #d9760f; } circle.s1, circle.s7 { fill: #d9760f; }
path.s2, path.s8 { stroke: #28823c; } circle.s2, circle.s8 { fill: #28823c; }
path.s3, path.s9 { stroke: #be2828; } circle.s3, circle.s9 { fill: #be2828; }
path.s4, path.s10 { stroke: #7a4fb5; } circle.s4, circle.s10 { fill: #7a4fb5; }
path.s5, path.s11 { stroke: #1c1e21; } circle.s5, circle.s11 { fill: #1c1e21; }
path.s6, path.s7, path.s8, path.s9, path.s10, path.s11 { stroke-dasharray: 7 4; }
)css";

std::string text(double x, double y, const char* anchor, const std::string& words) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor,
                     html_escape(words));
}

}  // namespace

Series thinned(const Series& series, std::size_t most) {
  const std::size_t n = series.x.size();
  if (n <= most || most < 2) return series;
  const std::size_t stretches = most / 2;
  Series out{series.name, {}, {}};
  for (std::size_t s = 0; s < stretches; ++s) {
    const std::size_t end = (s + 1) * n / stretches;
    std::size_t low = s * n / stretches;
    std::size_t high = low;
    std::size_t gap = end;  // the first that is not finite
    for (std::size_t i = low; i < end; ++i) {
      if (!std::isfinite(series.y[i])) {
        gap = std::min(gap, i);
        continue;
      }
      if (!(series.y[i] >= series.y[low])) low = i;
      if (!(series.y[i] <= series.y[high])) high = i;
    }
    std::vector<std::size_t> kept = {low, high};
    if (gap < end) kept.push_back(gap);
    std::sort(kept.begin(), kept.end());
    kept.erase(std::unique(kept.begin(), kept.end()), kept.end());
    for (const std::size_t i : kept) {
      out.x.push_back(series.x[i]);
      out.y.push_back(series.y[i]);
    }
  }
  return out;
}

namespace {

/// Axes, ticks and lines, without title and legend.
std::string drawing(const Plot& plot) {
  constexpr std::size_t most = 800, few = 60;
  std::vector<Series> lines;
  Axis x_axis{plot.x_scale}, y_axis{plot.y_scale};
  const auto shown = [&](double x, double y) { return x_axis.shown(x) && y_axis.shown(y); };
  for (const Series& s : plot.series) {
    if (s.x.size() != s.y.size()) {
      throw flowmatch::ShapeError(fmt::format("the series '{}' has {} x and {} y; give as many",
                                              s.name, s.x.size(), s.y.size()));
    }
    lines.push_back(thinned(s, most));
    for (std::size_t i = 0; i < lines.back().x.size(); ++i) {
      if (!shown(lines.back().x[i], lines.back().y[i])) continue;
      x_axis.include(lines.back().x[i]);
      y_axis.include(lines.back().y[i]);
    }
  }
  x_axis.close();
  y_axis.close();
  const auto px = [&](double x) { return left + x_axis.fraction(x) * (width - left - right); };
  const auto py = [&](double y) {
    return height - bottom - y_axis.fraction(y) * (height - top - bottom);
  };
  const auto line = [](const char* kind, double x0, double y0, double x1, double y1) {
    return fmt::format(
        "<line class=\"{}\" x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\"/>\n", kind, x0,
        y0, x1, y1);
  };
  std::string out;
  for (const double x : x_axis.ticks(8)) {
    out += line("grid", px(x), top, px(x), height - bottom);
    out += text(px(x), height - bottom + 18, "middle", number(x));
  }
  for (const double y : y_axis.ticks(6)) {
    out += line("grid", left, py(y), width - right, py(y));
    out += text(left - 8, py(y) + 4, "end", number(y));
  }
  out += line("axis", left, top, left, height - bottom);
  out += line("axis", left, height - bottom, width - right, height - bottom);
  out += text((left + width - right) / 2, height - 8, "middle", plot.x_label);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const Series& s = lines[i];
    std::string path, dots;
    bool pen_down = false;
    for (std::size_t k = 0; k < s.x.size(); ++k) {
      if (shown(s.x[k], s.y[k])) {
        path += fmt::format("{}{:.1f} {:.1f}", pen_down ? 'L' : 'M', px(s.x[k]), py(s.y[k]));
        if (s.x.size() <= few) {  // a single point has no line
          dots += fmt::format("<circle class=\"s{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\"/>\n", i,
                              px(s.x[k]), py(s.y[k]));
        }
      }
      pen_down = shown(s.x[k], s.y[k]);
    }
    out += fmt::format("<path class=\"s{}\" d=\"{}\"/>\n", i, path) + dots;
  }
  return out;
}

}  // namespace

std::string svg_plot(const Plot& plot) {
  std::string out = fmt::format(
      "<figure>\n<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n{}</svg>\n", width,
      height, html_escape(plot.title), drawing(plot));
  out += "<figcaption>";
  for (std::size_t i = 0; i < plot.series.size(); ++i) {
    out += fmt::format("<span class=\"key\"><i class=\"s{}\"></i>{}</span>\n", i,
                       html_escape(plot.series[i].name));
  }
  return out + "</figcaption>\n</figure>\n";
}

void write_svg(const std::filesystem::path& path, const std::vector<Plot>& plots) {
  const double all = static_cast<double>(plots.size()) * (heading + height);
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\">\n<style>{2}</style>\n<rect width=\"{0}\" height=\"{1}\" fill=\"#fff\"/>\n",
      width + legend, all, file_style);
  for (std::size_t p = 0; p < plots.size(); ++p) {
    const double y = static_cast<double>(p) * (heading + height);
    out += fmt::format(
        "<text class=\"title\" x=\"{}\" y=\"{}\">{}</text>\n<g transform=\"translate(0 {})\">\n{}",
        left, y + heading - 12, html_escape(plots[p].title), y + heading, drawing(plots[p]));
    for (std::size_t i = 0; i < plots[p].series.size(); ++i) {
      const double at = top + 8 + 24 * static_cast<double>(i);
      out += fmt::format("<path class=\"s{}\" d=\"M{} {}h28\"/>\n", i, width, at) +
             text(width + 36, at + 5, "start", plots[p].series[i].name);
    }
    out += "</g>\n";
  }
  out += "</svg>\n";
  std::error_code error;
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
  flowmatch::write_file<flowmatch::DataError>(path, [&](std::ostream& file) { file << out; });
}

}  // namespace support
