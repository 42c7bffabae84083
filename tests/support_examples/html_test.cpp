#include "examples/support/html.hpp"

#include "examples/support/png.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/io/read_file.hpp"
#include "tests/support/test.hpp"

namespace {

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string small_png() {
  const TemporaryFolder folder;
  support::write_png(folder.path() / "x.png", {3, 2, std::vector<std::uint8_t>(18, 7)});
  return fm::read_file<fm::DataError>(folder.path() / "x.png");
}

}  // namespace

TEST_CASE("html: what has a meaning in HTML is escaped, the rest stays") {
  REQUIRE(support::html_escape("<a href=\"x\">it's & co</a>") ==
          "&lt;a href=&quot;x&quot;&gt;it&#39;s &amp; co&lt;/a&gt;");
  REQUIRE(support::html_escape("&lt;") == "&amp;lt;");
  REQUIRE(support::html_escape("Fréchet\n± 1") == "Fréchet\n± 1");
  REQUIRE(support::html_escape(std::string("a\0b", 3)) ==
          "a\xef\xbf\xbd"
          "b");
  REQUIRE(support::html_escape("").empty());
}

TEST_CASE("html: base64 by the test vectors of RFC 4648") {
  REQUIRE(support::base64("").empty());
  REQUIRE(support::base64("f") == "Zg==");
  REQUIRE(support::base64("fo") == "Zm8=");
  REQUIRE(support::base64("foo") == "Zm9v");
  REQUIRE(support::base64("foob") == "Zm9vYg==");
  REQUIRE(support::base64("fooba") == "Zm9vYmE=");
  REQUIRE(support::base64("foobar") == "Zm9vYmFy");
  REQUIRE(support::base64("\xff\xfe\xfb\xf0") == "//778A==");
  REQUIRE(support::base64(std::string(3, '\0')) == "AAAA");
}

TEST_CASE("html: an image holds its bytes, its size and an escaped alternative text") {
  const std::string png = small_png();
  const std::string image = support::html_image(png, "a \"3\" by <2>", "x.png");
  REQUIRE(holds(image, "width=\"3\" height=\"2\""));
  REQUIRE(holds(image, "alt=\"a &quot;3&quot; by &lt;2&gt;\""));
  REQUIRE(holds(image, "src=\"data:image/png;base64," + support::base64(png) + "\""));
  require_error<fm::DataError>([] { support::html_image("GIF89a", "", "x.gif"); },
                               "x.gif is no PNG");
  require_error<fm::DataError>([&] { support::html_image(png.substr(0, 20), "", "cut.png"); },
                               "cut.png is no PNG");
}

TEST_CASE("html: tables escape their cells and name their rows and columns") {
  const std::string plain = support::html_table({}, {{"a<b", "1 & 2"}, {"c", ""}});
  REQUIRE(holds(plain, "<tr><th scope=\"row\">a&lt;b</th><td>1 &amp; 2</td></tr>"));
  REQUIRE(holds(plain, "<tr><th scope=\"row\">c</th><td></td></tr>"));
  REQUIRE(!holds(plain, "<thead>"));
  const std::string figures = support::html_table({"of", "F<ID"}, {{"x", "1.5"}});
  REQUIRE(
      holds(figures, "<thead><tr><th scope=\"col\">of</th><th scope=\"col\">F&lt;ID</th></tr>"));
  REQUIRE(holds(figures, "class=\"figures\""));
}

TEST_CASE("html: a page is whole, escapes its title and asks for nothing") {
  const std::string page = support::html_page("a <run>", "<p>body</p>");
  REQUIRE(page.rfind("<!DOCTYPE html>", 0) == 0);
  REQUIRE(holds(page, "<title>a &lt;run&gt;</title>"));
  REQUIRE(holds(page, "<body>\n<p>body</p></body>\n</html>\n"));
  REQUIRE(holds(page, "prefers-color-scheme: dark"));
  for (const char* never : {"<script", "http:", "https:", "url(", "@import", "<link"})
    REQUIRE(!holds(page, never));
}
