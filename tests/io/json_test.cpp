#include "flowmatch/io/json.hpp"

#include <vector>

#include "tests/support/test.hpp"

namespace {

std::string string_of(const std::string& json) {
  fm::JsonReader reader(json);
  std::string value = reader.string();
  reader.end();
  return value;
}

std::int64_t number_of(const std::string& json) {
  fm::JsonReader reader(json);
  const std::int64_t value = reader.number();
  reader.end();
  return value;
}

}  // namespace

TEST_CASE("json: objects and numbers in any spacing") {
  fm::JsonReader reader("\t{ \"a\" : [1 ,2],\r\n\"b\":[ ] , \"c\":{}} ");
  std::string seen;
  reader.object([&](const std::string& key) {
    seen += key;
    if (key == "c") {
      reader.object([](const std::string&) { FAIL("there is none"); });
    } else {
      reader.numbers([&](std::int64_t n) { seen += std::to_string(n); });
    }
  });
  reader.end();
  CHECK(seen == "a12bc");
}

TEST_CASE("json: escapes become UTF-8 of one to four bytes") {
  CHECK(string_of(R"("\"\\\/\b\f\n\r\t")") == "\"\\/\b\f\n\r\t");
  CHECK(string_of(R"("\u0041\u00e9\u20AC\ud83d\ude00")") == "A\u00e9\u20ac\U0001f600");
  CHECK(string_of(R"("\uffff\ud800\udc00\udbff\udfff")") == "\uffff\U00010000\U0010ffff");
  CHECK(string_of("\"\xc3\xa9\"") == "\u00e9");
}

TEST_CASE("json: strings that are none are refused with the place") {
  const auto refused = [](const std::string& json, const std::string& part) {
    require_error<fm::DataError>([&] { string_of(json); }, part);
  };
  refused("a", "no '\"' at byte 0");
  refused("\"a", "no end of a string at byte 2");
  refused("\"a\\", "no end of a string");
  refused("\"a\nb\"", "no escape for a control character");
  refused(R"("\x41")", "no known escape at byte 2");
  refused(R"("\u00g1")", "no four hexadecimal digits");
  refused(R"("\u-001")", "no four hexadecimal digits");
  refused(R"("\u00)", "no four hexadecimal digits");
  refused(R"("\ud83d")", "no second half of a surrogate pair");
  refused(R"("\ud83dab")", "no second half of a surrogate pair");
  refused(R"("\ud83d\u0041")", "no second half of a surrogate pair");
  refused(R"("\ude00")", "no second half of a surrogate pair");
  refused("\"a\" b", "no end at byte 4");
}

TEST_CASE("json: whole numbers below 2^63 and no others") {
  CHECK(number_of(" 0 ") == 0);
  CHECK(number_of("9223372036854775807") == std::numeric_limits<std::int64_t>::max());
  for (const char* json : {"9223372036854775808", "-1", "-0", "01", "00", "1.0", "1e0", "+1", "",
                           "x", "0x10", "\"1\""}) {
    INFO(json);
    CHECK_THROWS_AS(number_of(json), fm::DataError);
  }
}

TEST_CASE("json: commas and brackets where they belong") {
  for (const char* json : {"", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}",
                           "{\"a\" 1}", "{,}", "{\"a\":1 \"b\":2}", "[1]", "{a:1}"}) {
    INFO(json);
    fm::JsonReader reader(json);
    CHECK_THROWS_AS(reader.object([&](const std::string&) { reader.number(); }), fm::DataError);
  }
  for (const char* json : {"", "[", "[1", "[1,", "[1,]", "[,]", "[1 2]", "{}"}) {
    INFO(json);
    fm::JsonReader reader(json);
    CHECK_THROWS_AS(reader.numbers([](std::int64_t) {}), fm::DataError);
  }
}

TEST_CASE("json: UTF-8 as RFC 3629 has it") {
  for (const char* text : {"", "a", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
                           "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    INFO(text);
    CHECK(fm::is_utf8(text));
  }
  for (const char* text : {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x41",
                           "\xe0\x9f\xbf", "\xe2\x82", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                           "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "a\xe2\x82\x28"}) {
    INFO(text);
    CHECK_FALSE(fm::is_utf8(text));
  }
}

TEST_CASE("json: a string comes back as it was written") {
  std::string all;
  for (char c = 1; c < 127; ++c) all += c;
  all += '\0';
  all += "\u00e9\U0001f600";
  CHECK(string_of(fm::json_string(all)) == all);
  CHECK(fm::json_string("a\"\\\n") == "\"a\\\"\\\\\\u000a\"");
  require_error<fm::DataError>([] { fm::json_string("\xff"); }, "not UTF-8");
}
