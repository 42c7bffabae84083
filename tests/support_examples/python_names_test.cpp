#include "examples/fashion_mnist/python_names.hpp"

#include "flowmatch/model/state_dict.hpp"
#include "tests/support/test.hpp"

using namespace fashion_mnist;

TEST_CASE("python_names: every tensor of the UNet has a name of its own in Python and back") {
  for (const char* model : {"small", "paper"}) {
    const UNetOptions options = UNetOptions::named(model);
    const fm::NameMap ours = from_python_names(options);
    const fm::StateDict own = fm::state_dict(*UNet(options));
    const fm::StateDict theirs = fm::renamed(own, ours.inverse());
    CHECK(theirs.size() == own.size());
    for (const auto& entry : theirs) {
      INFO(entry.key());
      CHECK_FALSE(own.contains(entry.key()));  // renamed, all of them
      CHECK(own.at(ours(entry.key())).data_ptr() == entry.value().data_ptr());
    }
  }
}

TEST_CASE("python_names: levels on the way up are counted from below in Python") {
  const fm::NameMap ours = from_python_names(UNetOptions::paper());
  CHECK(ours("u.0.2.c1.0.weight") == "up3_2.conv1.norm.weight");
  CHECK(ours("u.3.0.idc.bias") == "up0_0.shortcut.bias");
  CHECK(ours("up.0.1.weight") == "grow3.weight");
  CHECK(ours("dn.2.weight") == "shrink2.weight");
  CHECK(ours("d.1.0.ep.weight") == "down1_0.scale_shift.weight");
  CHECK(ours("em.4.bias") == "time2.bias");
}
