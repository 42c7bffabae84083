#include "flowmatch/io/safetensors_header.hpp"

#include "tests/support/test.hpp"

namespace {

/// A file of that header and those values.
std::string file(const std::string& json, const std::string& values = "") {
  std::string bytes;
  for (std::size_t i = 0; i < 8; ++i) bytes += static_cast<char>(json.size() >> 8U * i & 0xFFU);
  return bytes + json + values;
}
std::string entry(const std::string& name, const std::string& offsets = "0,2",
                  const std::string& shape = "2", const std::string& dtype = "U8") {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape +
         "],\"data_offsets\":[" + offsets + "]}";
}
fm::SafetensorsHeader parse(const std::string& bytes) {
  return fm::parse_safetensors_header(bytes, "a.safetensors");
}
void refused(const std::string& bytes, const std::string& part) {
  require_error<fm::CheckpointError>([&] { parse(bytes); }, part);
}

}  // namespace

TEST_CASE("safetensors_header: tensors come in the order of their values") {
  const std::string json = "{" + entry("b", "4,6") + "," + entry("a", "0,4", "2,1,1", "F16") +
                           ",\"__metadata__\":{\"k\":\"v\"}," + entry("none", "4,4", "0,7", "F64") +
                           "}  \n";
  const fm::SafetensorsHeader header = parse(file(json, "123456"));
  REQUIRE(header.tensors.size() == 3);
  CHECK(header.tensors[0].name == "a");
  CHECK(header.tensors[0].dtype == "F16");
  CHECK(header.tensors[0].shape == std::vector<std::int64_t>{2, 1, 1});
  CHECK(header.tensors[1].name == "none");
  CHECK(header.tensors[2].begin == 4);
  CHECK(header.tensors[2].end == 6);
  CHECK(header.metadata == std::map<std::string, std::string>{{"k", "v"}});
  CHECK(header.size == 8 + json.size());
  CHECK(parse(file("{}")).tensors.empty());
  CHECK(parse(file("{" + entry("a", "0,1", "") + "}", "1")).tensors[0].shape.empty());
}

TEST_CASE("safetensors_header: every message names the file and the remedy") {
  refused("", "a.safetensors is not a usable .safetensors file");
  refused("", "restore it from a copy");
}

TEST_CASE("safetensors_header: lengths that do not fit the file") {
  const std::string whole = file("{" + entry("a") + "}", "12");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    INFO("cut at " << size);
    REQUIRE_THROWS_AS(parse(whole.substr(0, size)), fm::CheckpointError);
  }
  refused(std::string("\x02\0\0\0\0\0\0", 7), "ends within its header");
  refused(std::string(8, '\0'), "does not begin with '{'");
  refused(std::string(8, '\xff') + "{}", "ends within its header");
  refused(file("{}").substr(0, 9), "ends within its header");
  refused(file(" {}"), "does not begin with '{'");
  refused(file("{}x"), "no end at byte 2");
  refused(file(std::string("{}\0", 3)), "no end at byte 2");
  refused(file("{" + std::string(100'000'000, ' ') + "}"), "above 100 MB");
}

TEST_CASE("safetensors_header: an altered byte is refused or changes nothing but texts") {
  const std::string whole = file("{\"__metadata__\":{\"k\":\"v\"}," + entry("a") + "}", "12");
  int refused_count = 0;
  for (std::size_t i = 0; i < whole.size() - 2; ++i) {
    for (const char value :
         {'\0', '0', '1', '9', '-', '{', '}', ',', ' ', '"', '\\', 'x', '\xff'}) {
      std::string altered = whole;
      altered[i] = value;
      try {
        const fm::SafetensorsHeader header = parse(altered);
        REQUIRE(header.tensors.size() == 1);
        REQUIRE(header.tensors[0].end == 2);
      } catch (const fm::CheckpointError&) {
        ++refused_count;
      }
    }
  }
  CHECK(refused_count > 800);
}

TEST_CASE("safetensors_header: names that occur twice") {
  refused(file("{" + entry("a") + "," + entry("a", "2,4") + "}", "1234"), "it has 'a' twice");
  refused(file("{" + entry("a") + "," + entry("\\u0061", "2,4") + "}", "1234"), "it has 'a' twice");
  refused(file("{\"__metadata__\":{},\"__metadata__\":{}}"), "'__metadata__' twice");
  refused(file("{\"__metadata__\":{\"k\":\"v\",\"k\":\"w\"}}"), "metadata have 'k' twice");
  refused(file("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
               "12"),
          "'a' has 'dtype' twice");
}

TEST_CASE("safetensors_header: overlaps and holes and bytes that belong to nobody") {
  refused(file("{" + entry("a") + "," + entry("b", "1,3") + "}", "123"), "of 'b' overlap others");
  refused(file("{" + entry("a") + "," + entry("b") + "}", "12"), "overlap others");
  refused(file("{" + entry("a") + "," + entry("b", "3,5") + "}", "12345"), "'b' come after a hole");
  refused(file("{" + entry("a", "1,3") + "}", "123"), "'a' come after a hole");
  refused(file("{" + entry("a") + "}", "123"), "declares 2 bytes of values, it holds 3");
  refused(file("{" + entry("a") + "}", "1"), "declares 2 bytes of values, it holds 1");
  refused(file("{}", "1"), "declares 0 bytes of values, it holds 1");
}

TEST_CASE("safetensors_header: offsets that are not the shape's") {
  refused(file("{" + entry("a", "0,3") + "}", "123"), "'a' has offsets 0 to 3 for 2 bytes");
  refused(file("{" + entry("a", "2,0") + "}", "12"), "'a' has offsets 2 to 0");
  refused(file("{" + entry("a", "0,2", "2", "F32") + "}", "12"), "for 8 bytes");
  refused(file("{" + entry("a", "0,1", "0") + "}", "1"), "for 0 bytes");
  refused(file("{" + entry("a", "0,2,2") + "}", "12"), "more than two offsets");
  refused(file("{" + entry("a", "0") + "}", "12"),
          "lacks one of dtype, shape and two data_offsets");
  refused(file("{" + entry("a", "0,18446744073709551618") + "}", "12"), "no whole number");
}

TEST_CASE("safetensors_header: shapes that overflow") {
  for (const char* shape :
       {"4611686018427387904,4611686018427387904", "9223372036854775807",
        "4294967296,4294967296,4294967296", "0,4611686018427387904,4611686018427387904"}) {
    INFO(shape);
    refused(file("{" + entry("a", "0,0", shape, "F64") + "}"), "'a' has a shape that overflows");
  }
  refused(file("{" + entry("a", "0,0", "9223372036854775808") + "}"), "no whole number");
  refused(file("{" + entry("a", "0,2", "-2") + "}", "12"), "no whole number");
  refused(file("{" + entry("a", "0,2", "2.0") + "}", "12"), "no ']'");
  std::string many = "1";
  for (int i = 1; i < 64; ++i) many += ",1";
  CHECK(parse(file("{" + entry("a", "0,1", many) + "}", "1")).tensors[0].shape.size() == 64);
  refused(file("{" + entry("a", "0,1", many + ",1") + "}", "1"), "more than 64 dimensions");
}

TEST_CASE("safetensors_header: types and members that are not known") {
  refused(file("{" + entry("a", "0,2", "2", "F4") + "}", "12"),
          "'a' is of type 'F4', which is not");
  refused(file("{" + entry("a", "0,2", "2", "u8") + "}", "12"), "is of type 'u8'");
  refused(file("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2],\"x\":1}}", "12"),
          "'a' has an unknown 'x'");
  refused(file("{\"a\":{\"dtype\":\"U8\",\"shape\":[2]}}", "12"), "'a' lacks one of");
  refused(file("{\"a\":{}}"), "'a' lacks one of");
  refused(file("{\"a\":1}"), "no '{'");
  refused(file("{\"__metadata__\":{\"k\":1}}"), "no '\"'");
}

TEST_CASE("safetensors_header: what is not UTF-8") {
  refused(file("{" + entry("\xff") + "}", "12"), "its header is not UTF-8");
  refused(file("{" + entry("\\ud83d") + "}", "12"), "surrogate");
  require_error<fm::DataError>(
      [] {
        fm::safetensors_header_bytes({{{"\xff", "U8", {2}, 0, 2}}, {}, 0});
      },
      "not UTF-8");
}

TEST_CASE("safetensors_header: what is written is read and begins its values at a multiple of 8") {
  fm::SafetensorsHeader header;
  std::uint64_t begin = 0;
  for (int i = 0; i < 9; ++i) {
    const std::string name = std::string(static_cast<std::size_t>(i), '"') + "\u00e9\n";
    header.tensors.push_back(
        {name, "F32", {2, i}, begin, begin + 8 * static_cast<std::uint64_t>(i)});
    begin = header.tensors.back().end;
    header.metadata["key \\ " + name] = name;
    const std::string bytes = fm::safetensors_header_bytes(header);
    CHECK(bytes.size() % 8 == 0);
    const fm::SafetensorsHeader back = parse(bytes + std::string(begin, 'x'));
    REQUIRE(back.tensors.size() == header.tensors.size());
    CHECK(back.tensors.back().name == name);
    CHECK(back.tensors.back().shape == header.tensors.back().shape);
    CHECK(back.metadata == header.metadata);
    CHECK(back.size == bytes.size());
  }
  CHECK(fm::safetensors_header_bytes({}) == file("{}      "));
}
