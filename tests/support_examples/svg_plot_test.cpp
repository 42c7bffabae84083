#include "examples/support/svg_plot.hpp"

#include <cmath>
#include <filesystem>
#include <iterator>
#include <limits>

#include "flowmatch/core/error.hpp"
#include "flowmatch/io/read_file.hpp"
#include "tests/support/test.hpp"

using support::Series;

namespace {

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

Series series(std::size_t n, double (*y)(std::size_t)) {
  Series s{"loss", {}, {}};
  for (std::size_t i = 0; i < n; ++i) {
    s.x.push_back(static_cast<double>(i));
    s.y.push_back(y(i));
  }
  return s;
}

}  // namespace

TEST_CASE("svg plot: a line runs from corner to corner") {
  const std::string plot = support::svg_plot({{{"x", {0, 5, 10}, {0, 2.5, 5}}}, "line", "step"});
  REQUIRE(count(plot, "<path class=\"s0\" d=\"M64.0 352.0L474.0 182.0L884.0 12.0\"/>") == 1);
  REQUIRE(count(plot, "<circle class=\"s0\"") == 3);
}

TEST_CASE("svg plot: NaN and infinity break a line and are no point") {
  const double nan = std::nan("");
  const double inf = std::numeric_limits<double>::infinity();
  const std::string plot =
      support::svg_plot({{{"x", {0, 1, 2, 3, 4, 5}, {1, 2, nan, inf, 1, 2}}}, "gap", "step"});
  REQUIRE(count(plot, "d=\"M64.0 352.0L228.0 12.0M720.0 352.0L884.0 12.0\"") == 1);
  REQUIRE(count(plot, "<circle") == 4);
  REQUIRE(count(plot, "nan") + count(plot, "inf") == 0);
}

TEST_CASE("svg plot: a logarithmic scale makes powers straight and leaves out the rest") {
  const std::string plot = support::svg_plot(
      {{{"x", {0, 1, 2, 3}, {1, 10, 100, 0}}}, "line", "step", support::Scale::logarithmic});
  REQUIRE(count(plot, "d=\"M64.0 352.0L474.0 182.0L884.0 12.0\"") == 1);
}

TEST_CASE("svg plot: nothing, a point and a constant come out whole") {
  for (const std::vector<Series>& lines : {std::vector<Series>{},
                                           {{"one", {1}, {1}}},
                                           {{"same", {1, 2}, {3, 3}}},
                                           {{"none", {}, {}}}}) {
    const std::string plot = support::svg_plot({lines, "t", "x"});
    REQUIRE(count(plot, "<svg") == 1);
    REQUIRE(count(plot, "</svg>") == 1);
    REQUIRE(count(plot, "<path") == lines.size());
    REQUIRE(count(plot, "nan") == 0);
  }
}

TEST_CASE("svg plot: texts are escaped, in the label, the axis and the legend") {
  const std::string plot = support::svg_plot({{{"a<b", {1}, {1}}}, "loss \"of\" <x>", "x & y"});
  REQUIRE(count(plot, "aria-label=\"loss &quot;of&quot; &lt;x&gt;\"") == 1);
  REQUIRE(count(plot, ">x &amp; y</text>") == 1);
  REQUIRE(count(plot, "a&lt;b</span>") == 1);
}

TEST_CASE("svg plot: both axes can be logarithmic") {
  const std::string plot = support::svg_plot({{{"x", {1, 10, 100, 0}, {1, 10, 100, 1}}},
                                              "line",
                                              "step",
                                              support::Scale::logarithmic,
                                              support::Scale::logarithmic});
  REQUIRE(count(plot, "d=\"M64.0 352.0L474.0 182.0L884.0 12.0\"") == 1);
}

TEST_CASE("svg plot: a file has each plot with its title and legend, and stands alone") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "new" / "plots.svg";
  const support::Plot one{
      {{"a & b", {0, 5, 10}, {0, 2.5, 5}}, {"second", {0, 10}, {5, 0}}}, "up <and> down", "step"};
  support::write_svg(file, {one, {{}, "nothing", "step"}});
  const std::string svg = flowmatch::read_file<fm::DataError>(file);
  REQUIRE(svg.find("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1100 880\"") == 0);
  REQUIRE(count(svg, "d=\"M64.0 352.0L474.0 182.0L884.0 12.0\"") == 1);
  REQUIRE(count(svg, "<path class=\"s1\" d=\"M900 44h28\"/>") == 1);  // the second's key
  REQUIRE(count(svg, ">a &amp; b</text>") == 1);
  REQUIRE(count(svg, ">up &lt;and&gt; down</text>") == 1);
  REQUIRE(count(svg, "<g transform=\"translate(0 480)\">") == 1);
  REQUIRE(count(svg, "<g") == count(svg, "</g>"));
  REQUIRE(svg.find("</svg>\n") == svg.size() - 7);
  REQUIRE(std::distance(std::filesystem::directory_iterator(folder.path() / "new"), {}) == 1);
  require_error<fm::DataError>([&] { support::write_svg(file / "below", {one}); }, "cannot write");
  require_error<fm::ShapeError>(
      [&] {
        support::write_svg(file, {{{{"loss", {1, 2}, {1}}}, "t", "x"}});
      },
      "2 x and 1 y");
}

TEST_CASE("svg plot: an axis that begins at zero has no tick of minus zero") {
  support::Axis axis;
  axis.include(0);
  axis.include(0.999);
  axis.close();
  REQUIRE(support::number(axis.ticks(5).front()) == "0");
}

TEST_CASE("svg plot: a long series is thinned and loses neither its ends nor its peaks") {
  const Series all = series(100000, [](std::size_t i) {
    return i == 54321 ? 99.0 : i == 12345 ? -99.0 : std::sin(0.1 * static_cast<double>(i));
  });
  const Series few = support::thinned(all, 800);
  REQUIRE(few.x.size() <= 800);
  REQUIRE(few.x.size() == few.y.size());
  REQUIRE(std::is_sorted(few.x.begin(), few.x.end()));
  REQUIRE(*std::max_element(few.y.begin(), few.y.end()) == 99);
  REQUIRE(*std::min_element(few.y.begin(), few.y.end()) == -99);
  REQUIRE(few.x.front() < 250);
  REQUIRE(few.x.back() >= 100000 - 250);
  for (std::size_t i = 0; i < few.x.size(); ++i)
    REQUIRE(few.y[i] == all.y[static_cast<std::size_t>(few.x[i])]);
  REQUIRE(support::svg_plot({{all}, "t", "x"}).size() < 20000);
  REQUIRE(support::thinned(series(10, [](std::size_t) { return 1.0; }), 800).x.size() == 10);
}

TEST_CASE("svg plot: thinning keeps a gap where there is one") {
  const Series all = series(10000, [](std::size_t i) {
    return i == 5000 || i < 300 ? std::nan("") : static_cast<double>(i);
  });
  const Series few = support::thinned(all, 100);
  bool seen = false;
  for (std::size_t i = 0; i < few.x.size(); ++i) {
    REQUIRE(std::isnan(few.y[i]) == std::isnan(all.y[static_cast<std::size_t>(few.x[i])]));
    seen = seen || few.x[i] == 5000;
  }
  REQUIRE(seen);
  REQUIRE(std::isnan(few.y.front()));
}

TEST_CASE("svg plot: a series with unlike x and y is refused by name") {
  require_error<fm::ShapeError>(
      [] {
        support::svg_plot({{{"loss", {1, 2}, {1}}}, "t", "x"});
      },
      "'loss' has 2 x and 1 y");
}
