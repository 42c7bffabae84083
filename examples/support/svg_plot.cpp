#include "examples/support/svg_plot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "examples/support/html.hpp"
#include "flowmatch/core/error.hpp"

namespace support {

Series thinned(const Series& series, std::size_t most) {
  const std::size_t n = series.x.size();
  if (n <= most || most < 2) return series;
  const std::size_t stretches = most / 2;
  Series out{series.name, series.color, {}, {}};
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

std::string svg_plot(const std::vector<Series>& series, const std::string& title,
                     const std::string& x_label, Scale y_scale) {
  constexpr double width = 900, height = 400, left = 64, right = 16, top = 12, bottom = 48;
  constexpr std::size_t most = 800, few = 60;
  std::vector<Series> lines;
  Axis x_axis, y_axis{y_scale};
  const auto shown = [&](double x, double y) { return x_axis.shown(x) && y_axis.shown(y); };
  for (const Series& s : series) {
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
  const auto text = [](double x, double y, const char* anchor, const std::string& words) {
    return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y,
                       anchor, html_escape(words));
  };
  std::string out =
      fmt::format("<figure>\n<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n", width,
                  height, html_escape(title));
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
  out += text((left + width - right) / 2, height - 8, "middle", x_label);
  std::string legend;
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
    legend +=
        fmt::format("<span class=\"key\"><i class=\"s{}\"></i>{}</span>\n", i, html_escape(s.name));
  }
  return out + "</svg>\n<figcaption>" + legend + "</figcaption>\n</figure>\n";
}

}  // namespace support
