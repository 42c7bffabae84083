#include "examples/support/html.hpp"

#include <cstdint>

#include "flowmatch/core/error.hpp"

namespace support {

namespace {

constexpr std::string_view style = R"css(
:root { color-scheme: light dark; --text: #1c1e21; --quiet: #5f6670; --page: #fff; --rule: #d9dce1;
  --s0: #b9c3d0; --s1: #1f5fb4; --s2: #c8640a; --s3: #28823c; --s4: #be2828; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e6ea; --quiet: #9aa1ac; --page: #16181c;
  --rule: #363a42; --s0: #4b5664; --s1: #6aa5f0; --s2: #f0a050; --s3: #70c080; --s4: #f08080; } }
body { margin: 2rem auto; padding: 0 1rem; max-width: 62rem; color: var(--text);
  background: var(--page); font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin-bottom: .2rem; } h2 { margin-top: 2.5rem; } p, figure { margin: .5rem 0; }
.quiet, figcaption { color: var(--quiet); font-size: .9rem; }
img { max-width: 100%; height: auto; }
.small { display: flex; flex-wrap: wrap; gap: 1rem; } .small figure { width: 17rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--rule); }
td { overflow-wrap: anywhere; }
th { font-weight: 600; } tbody th { font-weight: 400; color: var(--quiet); }
.figures td, .figures thead th + th { text-align: right; padding: .25rem .4rem;
  white-space: nowrap; }
.figures thead th + th { white-space: normal; }
.figures tbody th { color: inherit; }
svg { width: 100%; height: auto; } svg text { fill: var(--quiet); font-size: 13px; }
svg .grid { stroke: var(--rule); } svg .axis { stroke: var(--quiet); }
svg path { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.key { margin-right: 1.2rem; white-space: nowrap; }
.key i { display: inline-block; width: 1.4rem; height: .25rem; margin-right: .4rem;
  vertical-align: middle; }
path.s0 { stroke: var(--s0); } circle.s0 { fill: var(--s0); } i.s0 { background: var(--s0); }
path.s1 { stroke: var(--s1); } circle.s1 { fill: var(--s1); } i.s1 { background: var(--s1); }
path.s2 { stroke: var(--s2); } circle.s2 { fill: var(--s2); } i.s2 { background: var(--s2); }
path.s3 { stroke: var(--s3); } circle.s3 { fill: var(--s3); } i.s3 { background: var(--s3); }
path.s4 { stroke: var(--s4); } circle.s4 { fill: var(--s4); } i.s4 { background: var(--s4); }
)css";

// Four bytes of a PNG, the highest first.
std::uint32_t number_at(std::string_view png, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = at; i < at + 4; ++i)
    value = value << 8U | static_cast<unsigned char>(png[i]);
  return value;
}

}  // namespace

std::string html_escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '\0':
        out += "\xef\xbf\xbd";
        break;  // HTML may not hold it: U+FFFD
      default:
        out += c;
    }
  }
  return out;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view digits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t here = std::min<std::size_t>(bytes.size() - i, 3);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k)
      group = group << 8U | (k < here ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    for (std::size_t k = 0; k < 4; ++k)
      out += k <= here ? digits[group >> (18 - 6 * k) & 63U] : '=';
  }
  return out;
}

std::string html_image(std::string_view png, std::string_view alt, const std::string& name) {
  constexpr std::string_view signature = "\x89PNG\r\n\x1a\n";
  if (png.size() < 33 || png.substr(0, 8) != signature || png.substr(12, 4) != "IHDR")
    throw flowmatch::DataError(name + " is no PNG picture; check that it is the right file");
  return "<img width=\"" + std::to_string(number_at(png, 16)) + "\" height=\"" +
         std::to_string(number_at(png, 20)) + "\" alt=\"" + html_escape(alt) +
         "\" src=\"data:image/png;base64," + base64(png) + "\">\n";
}

std::string html_table(const std::vector<std::string>& head,
                       const std::vector<std::vector<std::string>>& rows) {
  const auto cell = [](const std::string& tag, const std::string& attributes,
                       const std::string& text) {
    return "<" + tag + attributes + ">" + html_escape(text) + "</" + tag + ">";
  };
  std::string out = "<div class=\"wide\"><table";
  if (!head.empty()) {
    out += " class=\"figures\"><thead><tr>";
    for (const std::string& name : head) out += cell("th", " scope=\"col\"", name);
    out += "</tr></thead";
  }
  out += "><tbody>\n";
  for (const std::vector<std::string>& row : rows) {
    out += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i)
      out += i == 0 ? cell("th", " scope=\"row\"", row[i]) : cell("td", "", row[i]);
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string html_page(const std::string& title, const std::string& body) {
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
         "<meta name=\"color-scheme\" content=\"light dark\">\n<title>" +
         html_escape(title) + "</title>\n<style>" + std::string(style) +
         "</style>\n</head>\n<body>\n" + body + "</body>\n</html>\n";
}

}  // namespace support
