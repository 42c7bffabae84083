#include "flowmatch/io/python_pickle.hpp"

#include "tests/support/test.hpp"

namespace {

using namespace std::string_literals;

const std::string ordered = "ccollections\nOrderedDict\n";

void refused(const std::string& pickle, const std::string& part) {
  require_error<fm::DataError>([&] { fm::plain_pickle(pickle); }, part);
}

}  // namespace

TEST_CASE("python_pickle: an OrderedDict becomes a dict wherever it is fetched") {
  CHECK(fm::plain_pickle("\x80\x02" + ordered + "q\x07)Rq\x01h\x07)R.") == "\x80\x02}q\x01}.");
  CHECK(fm::plain_pickle(ordered + "r\x07\x01\0\0)Rj\x07\x01\0\0)R."s) == "}}.");
  CHECK(fm::plain_pickle(ordered + ")R.") == "}.");
  refused(ordered + "q\x07(tR.", "its OrderedDict has arguments");
  refused(ordered + "q\x07)Rh\x07.", "its OrderedDict has arguments");
  refused(ordered, "its OrderedDict has arguments");
}

TEST_CASE("python_pickle: an object with attributes becomes a tuple of both") {
  CHECK(fm::plain_pickle(ordered + ")R}b.") == "}}\x86.");
}

TEST_CASE("python_pickle: operands are not read as instructions") {
  for (const std::string& instruction :
       {"qb"s, "hb"s, "Kb"s, "Mbb"s, "Jbbbb"s, "rbbbb"s, "jbbbb"s, "Gbbbbbbbb"s, "X\x03\0\0\0bbb"s,
        "\x8a\x02"
        "bb"s,
        "cb\nb\n"s, "cb\nOrderedDict\n"s, "X\x19\0\0\0ccollections\nOrderedDict\n"s}) {
    INFO(instruction);
    CHECK(fm::plain_pickle(instruction + ".") == instruction + ".");
    for (std::size_t size = 1; size < instruction.size(); ++size) {
      CHECK_THROWS_AS(fm::plain_pickle(instruction.substr(0, size)), fm::DataError);
    }
  }
  refused("X\xff\xff\xff\xff", "cut short");
  refused("cb\nb", "cut short");
  refused("\x95", "not one of protocol 2");  // FRAME, of protocol 4
  refused("i", "not one of protocol 2");
}
