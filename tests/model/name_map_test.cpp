#include "flowmatch/model/name_map.hpp"

#include "flowmatch/model/state_dict.hpp"
#include "tests/support/networks.hpp"

TEST_CASE("name_map: a pair renames a tensor or all tensors of a module") {
  const fm::NameMap map{{"encoder.0", "first"}, {"scale", "gain"}, {"a.b.c", "d.e"}};
  CHECK(map("encoder.0.weight") == "first.weight");
  CHECK(map("encoder.0.norm.bias") == "first.norm.bias");
  CHECK(map("scale") == "gain");
  CHECK(map("a.b.c.weight") == "d.e.weight");
  CHECK(map("encoder.1.weight") == "encoder.1.weight");
}

TEST_CASE("name_map: a pair fits whole parts of names only") {
  const fm::NameMap map{{"conv", "first"}, {"a.b", "c"}};
  CHECK(map("conv.weight") == "first.weight");
  CHECK(map("conv2.weight") == "conv2.weight");
  CHECK(map("my.conv.weight") == "my.conv.weight");
  CHECK(map("a.bc") == "a.bc");
  CHECK(map("a") == "a");
}

TEST_CASE("name_map: the first pair that fits is taken") {
  CHECK(fm::NameMap{{"a.b", "x"}, {"a", "y"}}("a.b.weight") == "x.weight");
  CHECK(fm::NameMap{{"a", "y"}, {"a.b", "x"}}("a.b.weight") == "y.b.weight");
}

TEST_CASE("name_map: a prefix is stripped or added") {
  const fm::NameMap strip{{"module", ""}};
  CHECK(strip("module.conv.weight") == "conv.weight");
  CHECK(strip("modules.conv.weight") == "modules.conv.weight");
  CHECK(strip.inverse()("conv.weight") == "module.conv.weight");
  CHECK(fm::NameMap{{"", "net"}}("weight") == "net.weight");
}

TEST_CASE("name_map: the inverse leads back") {
  const fm::NameMap map{{"d.0.1.c1.0", "down0_1.conv1.norm"}, {"ci", "first"}};
  for (const char* name : {"d.0.1.c1.0.weight", "ci.bias", "other.weight"}) {
    CHECK(map.inverse()(map(name)) == name);
  }
  CHECK(map.inverse()("first.weight") == "ci.weight");
}

TEST_CASE("name_map: a renamed state loads into a module of those names") {
  networks::Mlp network;
  networks::Mlp other;
  const fm::NameMap to_ours{{"module.net", "layers"}};
  const fm::StateDict theirs = fm::renamed(fm::state_dict(*network), to_ours.inverse());
  CHECK(theirs.contains("module.net.0.weight"));
  CHECK(fm::compare_state_dict(*other, theirs).missing.size() == 6);
  fm::load_state_dict(*other, fm::renamed(theirs, to_ours));
  CHECK(at::equal(other->parameters()[0], network->parameters()[0]));
  // Any function will do, and nothing is copied.
  const fm::StateDict shouted =
      fm::renamed(theirs, [](const std::string& name) { return name + "!"; });
  CHECK(shouted.at("module.net.0.weight!").data_ptr() == network->parameters()[0].data_ptr());
}

TEST_CASE("name_map: two tensors of one name are refused") {
  networks::Mlp network;
  require_error<fm::CheckpointError>(
      [&] { fm::renamed(fm::state_dict(*network), [](const std::string&) { return "same"; }); },
      "two tensors are both named 'same', one of them 'layers.0.bias'");
}
