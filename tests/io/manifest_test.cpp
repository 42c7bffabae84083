#include "flowmatch/io/manifest.hpp"

#include <limits>

#include "tests/support/grouped_locale.hpp"
#include "tests/support/test.hpp"

namespace {

fm::Manifest example() {
  fm::Manifest manifest;
  manifest.set("format", std::int64_t{1});
  manifest.set("step", std::numeric_limits<std::int64_t>::min());
  manifest.set("options", "batch = 128\nlearning rate = 0.01\n");
  manifest.set("path", "C:\\new\\\\n");
  manifest.set("empty", "");
  manifest.set("spaces", "  two on each side  ");
  manifest.set("name with spaces", "Größe → 1");
  return manifest;
}

/// A text with the right CRC-32, whatever is in it.
std::string sealed(const std::string& body) {
  return body + "crc32 = " + fm::Manifest::hex(fm::crc32(body)) + "\n";
}

}  // namespace

TEST_CASE("manifest: a round trip keeps line breaks and backslashes and spaces") {
  const fm::Manifest manifest = example();
  const fm::Manifest back = fm::Manifest::from_text(manifest.to_text());
  CHECK(back.entries() == manifest.entries());
  CHECK(back.get("options") == "batch = 128\nlearning rate = 0.01\n");
  CHECK(back.get("path") == "C:\\new\\\\n");
  CHECK(back.get("empty").empty());
  CHECK(back.get_int("step") == std::numeric_limits<std::int64_t>::min());
  CHECK(fm::Manifest::from_text(fm::Manifest{}.to_text()).entries().empty());
}

TEST_CASE("manifest: its text is lines that people can read") {
  fm::Manifest manifest;
  manifest.set("step", std::int64_t{300});
  manifest.set("note", "a\nb\\c");
  const std::string body = "note = a\\nb\\\\c\nstep = 300\n";
  CHECK(manifest.to_text() == sealed(body));
}

TEST_CASE("manifest: every change of a byte is detected") {
  const std::string text = example().to_text();
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (const int change : {1, 2, 7, 32, 128, 255}) {
      std::string altered = text;
      altered[i] = static_cast<char>(altered[i] ^ change);
      REQUIRE_THROWS_AS(fm::Manifest::from_text(altered), fm::CheckpointError);
    }
  }
}

TEST_CASE("manifest: cut and lengthened texts are refused") {
  const std::string text = example().to_text();
  for (std::size_t size = 0; size < text.size(); ++size) {
    REQUIRE_THROWS_AS(fm::Manifest::from_text(text.substr(0, size)), fm::CheckpointError);
  }
  require_error<fm::CheckpointError>([] { fm::Manifest::from_text(""); }, "cut short");
  require_error<fm::CheckpointError>([&] { fm::Manifest::from_text(text.substr(0, 30)); },
                                     "damaged");
  require_error<fm::CheckpointError>([&] { fm::Manifest::from_text(text + "\n"); }, "damaged");
  require_error<fm::CheckpointError>([&] { fm::Manifest::from_text(text + text); }, "damaged");
}

TEST_CASE("manifest: a line without an equals sign is refused though its CRC is right") {
  require_error<fm::CheckpointError>([] { fm::Manifest::from_text(sealed("step 3\n")); },
                                     "a line without ' = '");
  CHECK(fm::Manifest::from_text(sealed("step = 3\n")).get_int("step") == 3);
}

TEST_CASE("manifest: entries are replaced and looked up by name") {
  fm::Manifest manifest;
  CHECK_FALSE(manifest.contains("step"));
  manifest.set("step", std::int64_t{1});
  manifest.set("step", std::int64_t{-2});
  CHECK(manifest.contains("step"));
  CHECK(manifest.get("step") == "-2");
  CHECK(manifest.get_int("step") == -2);
  require_error<fm::CheckpointError>([&] { manifest.get("epoch"); }, "no entry 'epoch'");
  require_error<fm::CheckpointError>([&] { manifest.get_int("epoch"); }, "no entry 'epoch'");
}

TEST_CASE("manifest: what is no whole number is refused as one") {
  for (const char* value : {"", "three", "3.5", "3 ", " 3", "0x3", "9223372036854775808"}) {
    fm::Manifest manifest;
    manifest.set("step", value);
    require_error<fm::CheckpointError>([&] { manifest.get_int("step"); }, "not a whole number");
  }
}

TEST_CASE("manifest: keys that would not come back are refused") {
  fm::Manifest manifest;
  for (const char* key : {"", "a=b", "a = b", "a\nb"}) {
    require_error<fm::OptionError>([&] { manifest.set(key, "value"); },
                                   "use one without '=' and line breaks");
    require_error<fm::OptionError>([&] { manifest.set(key, std::int64_t{1}); },
                                   "can't be a manifest's key");
  }
  CHECK(manifest.entries().empty());
}

TEST_CASE("manifest: a CRC is written as eight digits") {
  CHECK(fm::Manifest::hex(0xCBF43926U) == "cbf43926");
  CHECK(fm::Manifest::hex(0x1AU) == "0000001a");
}

TEST_CASE("manifest: numbers do not depend on the program's locale") {
  const GroupedLocale grouped;
  fm::Manifest manifest;
  manifest.set("steps", 1234567);
  manifest.set("score", fm::number_text(1234.5));
  CHECK(manifest.to_text().rfind("score = 1234.5\nsteps = 1234567\n", 0) == 0);
  const fm::Manifest back = fm::Manifest::from_text(manifest.to_text());
  CHECK(back.get_int("steps") == 1234567);
  CHECK(back.get_double("score") == 1234.5);
}
