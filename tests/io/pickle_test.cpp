#include "flowmatch/io/pickle.hpp"

#include "tests/support/test.hpp"

namespace {

using namespace std::string_literals;
using Kind = fm::PickleNode::Kind;

fm::PickleNode root(const std::string& pickle) {
  const fm::Pickle all = fm::parse_pickle(pickle + ".");
  return all.nodes[all.root];
}
std::vector<std::int64_t> numbers(const std::string& pickle) {
  const fm::Pickle all = fm::parse_pickle(pickle + ".");
  std::vector<std::int64_t> found;
  for (const std::uint32_t item : all.nodes[all.root].items)
    found.push_back(all.nodes[item].integer);
  return found;
}
void refused(const std::string& pickle, const std::string& part) {
  require_error<fm::DataError>([&] { fm::parse_pickle(pickle); }, part);
}

}  // namespace

TEST_CASE("pickle: numbers have their values") {
  CHECK(root("K\xff").integer == 255);
  CHECK(root("M\x01\x02").integer == 513);
  CHECK(root("J\xff\xff\xff\xff").integer == -1);
  CHECK(root("J\xff\xff\xff\x7f").integer == 2147483647);
  CHECK(root("\x8a\x00"s).integer == 0);
  CHECK(root("\x8a\x01\x80").integer == -128);
  CHECK(root("\x8a\x06\x00\x00\x00\x00\x00\x01"s).integer == 1099511627776);  // 2^40
  CHECK(root("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f").integer == 0x7fffffffffffffff);
  CHECK(root("\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x40"s).kind == Kind::other);  // 2^70
  CHECK(root("\x8b\x01\x00\x00\x00\x07"s).integer == 7);
  CHECK(root("G\x3f\xf8\x00\x00\x00\x00\x00\x00"s).real == 1.5);
  CHECK(root("\x88").integer == 1);
  CHECK(root("\x89").integer == 0);
  CHECK(root("\x89").kind == Kind::boolean);
  CHECK(root("N").kind == Kind::none);
}

TEST_CASE("pickle: texts and bytes of every length") {
  for (const std::string& text : {"X\x02\0\0\0ab"s, "T\x02\0\0\0ab"s, "U\x02"s + "ab",
                                  "\x8c\x02"s + "ab", "\x8d\x02\0\0\0\0\0\0\0ab"s}) {
    CHECK(root(text).kind == Kind::text);
    CHECK(root(text).text == "ab");
  }
  for (const std::string& bytes : {"B\x02\0\0\0ab"s, "C\x02"s + "ab", "\x8e\x02\0\0\0\0\0\0\0ab"s,
                                   "\x96\x02\0\0\0\0\0\0\0ab"s}) {
    CHECK(root(bytes).kind == Kind::other);
  }
}

TEST_CASE("pickle: lists and tuples and sets and dicts hold what was put in") {
  using Numbers = std::vector<std::int64_t>;
  CHECK(numbers(")").empty());
  CHECK(numbers("K\x01\x85") == Numbers{1});
  CHECK(numbers("K\x01K\x02\x86") == Numbers{1, 2});
  CHECK(numbers("K\x01K\x02K\x03\x87") == Numbers{1, 2, 3});
  CHECK(numbers("(K\x01K\x02K\x03K\x04t") == Numbers{1, 2, 3, 4});
  CHECK(numbers("(K\x01K\x02l") == Numbers{1, 2});
  CHECK(numbers("](K\x01K\x02"
                "e") == Numbers{1, 2});
  CHECK(numbers("]K\x01"
                "aK\x02"
                "a") == Numbers{1, 2});
  CHECK(numbers("\x8f(K\x01K\x02\x90") == Numbers{1, 2});
  CHECK(numbers("(K\x01K\x02\x91") == Numbers{1, 2});
  CHECK(numbers("}K\x01K\x02s") == Numbers{1, 2});
  CHECK(numbers("}(K\x01K\x02K\x03K\x04u") == Numbers{1, 2, 3, 4});
  CHECK(numbers("(K\x01K\x02"
                "d") == Numbers{1, 2});
  CHECK(numbers("K\x05q\x01"
                "0h\x01h\x01\x86") == Numbers{5, 5});  // by the memo
  CHECK(numbers("K\x05r\x01\0\0\0"
                "0j\x01\0\0\0\x85"s) == Numbers{5});
  CHECK(numbers("K\x05\x94K\x06\x94h\x00h\x01\x86"s) == Numbers{5, 6});
  CHECK(numbers("K\x05\x32\x86") == Numbers{5, 5});  // DUP
  CHECK(numbers("K\x05(K\x06"
                "1\x85") == Numbers{5});
  CHECK(root("]q\x00h\x00"
             "a"s)
            .items.size() == 1);  // a list within itself
}

TEST_CASE("pickle: what would be called is told and not called") {
  const std::string ordered = "ccollections\nOrderedDict\n";
  CHECK(root(ordered).text == "collections.OrderedDict");
  CHECK(root("\x8c\x02"
             "os\x8c\x06system\x93")
            .text == "os.system");
  CHECK(root(ordered + ")R").kind == Kind::dict);
  CHECK(numbers(ordered + ")R(K\x01K\x02u}b") == std::vector<std::int64_t>{1, 2});
  for (const std::string& call : {"cos\nsystem\nK\x01\x85R"s, "cos\nsystem\nK\x01\x85\x81"s,
                                  "cos\nsystem\nK\x01\x85}\x92"s, "cos\nsystem\nK\x01\x85R}b"s}) {
    const fm::Pickle all = fm::parse_pickle(call + ".");
    const fm::PickleNode& object = all.nodes[all.root];
    CHECK(object.kind == Kind::object);
    CHECK(all.nodes[object.items[0]].text == "os.system");
    CHECK(all.nodes[all.nodes[object.items[1]].items[0]].integer == 1);
  }
  // An object's attributes belong to it; an OrderedDict's (_metadata) do not.
  const fm::Pickle built = fm::parse_pickle("cos\nsystem\n)R}K\x05K\x06sb.");
  REQUIRE(built.nodes[built.root].items.size() == 3);
  const fm::PickleNode& state = built.nodes[built.nodes[built.root].items[2]];
  CHECK(state.kind == Kind::dict);
  CHECK(built.nodes[state.items.at(1)].integer == 6);
  CHECK(root("K\x01Q").kind == Kind::persistent);
  // Types that LibTorch's writer puts around values.
  CHECK(numbers("ctorch.jit._pickle\nrestore_type_tag\n(K\x01K\x02lK\x03\x86R") ==
        std::vector<std::int64_t>{1, 2});
  CHECK(numbers("ctorch.jit._pickle\nbuild_intlist\n(K\x01K\x02l\x85R") ==
        std::vector<std::int64_t>{1, 2});
}

TEST_CASE("pickle: what is cut or takes more than it gave or is unknown is refused") {
  for (const std::string& instruction : {"Kb"s, "Mbb"s, "Jbbbb"s, "Gbbbbbbbb"s, "X\x03\0\0\0bbb"s,
                                         "\x8a\x02"
                                         "bb"s,
                                         "cb\nb\n"s,
                                         "\x8c\x02"
                                         "bb"s,
                                         "\x95"
                                         "bbbbbbbbN"s}) {
    INFO(instruction);
    CHECK_NOTHROW(fm::parse_pickle(instruction + "."));
    for (std::size_t size = 0; size < instruction.size(); ++size)
      refused(instruction.substr(0, size), "");
  }
  refused("", "cut short");
  refused("N", "cut short");
  refused("X\xff\xff\xff\xff", "cut short");
  refused("\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "cut short");
  for (const char* taken :
       {".", "0",  "a.", "Na.",   "t",    "(a.", "u",      "N\x86", "R", "NR",
        "b", "Nb", "Q",  "q\x01", "\x94", "2",   "N(\x85", "1",     "e", "\x93"}) {
    INFO(taken);
    CHECK_THROWS_AS(fm::parse_pickle(taken), fm::DataError);
  }
  refused("h\x01.", "never kept");
  refused("cos\nsystem\n\x8c\1n\x93.", "names what has no name");  // a name of a name
  refused("\x8c\1nK\1\x93.", "names what has no name");
  refused(")Na.", "adds to what holds nothing");  // a tuple that others share
  refused("NNa.", "adds to what holds nothing");
  refused("}(Nu.", "adds to what holds nothing");
  refused("\x80\x06N.", "protocol 6");
  refused("I1\n.", "none of protocols 2 to 5");
}
