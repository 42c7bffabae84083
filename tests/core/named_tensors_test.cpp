#include "flowmatch/core/named_tensors.hpp"

#include "tests/support/test.hpp"

namespace {

using Names = std::vector<std::string>;

Names names_of(const fm::StateDict& state) {
  Names names;
  for (const auto& [name, tensor] : state) names.push_back(name);
  return names;
}

}  // namespace

TEST_CASE("named_tensors: entries keep the order in which they were added") {
  fm::StateDict state{
      {"z", on_device::ones({1})}, {"a", on_device::ones({2})}, {"z", on_device::ones({9})}};
  state["m"] = on_device::ones({3});
  CHECK(state.insert("b", on_device::ones({4})).second);
  CHECK(state.emplace("c", on_device::ones({5})).second);
  CHECK(state.insert({"d", on_device::ones({6})}).second);
  CHECK(names_of(state) == Names{"z", "a", "m", "b", "c", "d"});
  CHECK(state.size() == 6);
  CHECK(state.at("z").numel() == 1);  // the first of two stays
  std::int64_t i = 0;
  for (const auto& [name, tensor] : state) CHECK(tensor.numel() == ++i);
  i = 0;
  for (const auto& entry : state) {
    CHECK(entry.value().numel() == ++i);
    CHECK(entry.key() == entry.first);
    CHECK(entry.value().is_same(entry.second));
  }
}

TEST_CASE("named_tensors: entries are found, replaced and erased by their names") {
  fm::StateDict state{{"a", on_device::ones({1})}, {"b", on_device::ones({2})}};
  CHECK_FALSE(state.insert("a", on_device::ones({7})).second);
  CHECK(state.at("a").numel() == 1);
  CHECK_FALSE(state.insert_or_assign("a", on_device::ones({7})).second);
  CHECK(state.at("a").numel() == 7);
  CHECK(state.insert_or_assign("c", on_device::ones({3})).second);
  CHECK(state.at("c").numel() == 3);
  state["b"] = on_device::ones({8});
  state.at("c") = on_device::ones({9});
  for (auto& [name, tensor] : state) tensor = tensor + 1;
  const fm::StateDict& seen = state;
  CHECK(seen.find("b")->second.numel() == 8);
  CHECK(seen.at("c").sum().item<float>() == 18);
  CHECK(seen.find("none") == seen.end());
  CHECK_FALSE(seen.contains("none"));
  require_error<fm::DataError>([&] { seen.at("none"); }, "there is no tensor 'none'");
  require_error<fm::DataError>([&] { state.at("none"); }, "there is no tensor 'none'");
  CHECK(state.erase("b") == 1);
  CHECK(state.erase("b") == 0);
  CHECK_FALSE(state.contains("b"));
  CHECK(names_of(state) == Names{"a", "c"});
  CHECK(state.erase(state.find("a"))->first == "c");
  CHECK(names_of(state) == Names{"c"});
  CHECK(state.insert("a", on_device::ones({1})).second);
  CHECK(names_of(state) == Names{"c", "a"});
  CHECK_FALSE(state["new"].defined());
  CHECK(state.contains("new"));
  state.clear();
  CHECK(state.empty());
  CHECK(state.begin() == state.end());
  CHECK_FALSE(state.contains("a"));
}

TEST_CASE("named_tensors: a copy has its own entries and shares the tensors' memory") {
  fm::StateDict state{{"a", on_device::zeros({1})}, {"b", on_device::zeros({2})}};
  fm::StateDict copy = state;
  copy["c"] = on_device::zeros({3});
  copy["b"] = on_device::zeros({4});
  CHECK(names_of(state) == Names{"a", "b"});
  CHECK(state.at("b").numel() == 2);
  copy.at("a").fill_(5);
  CHECK(state.at("a").item<float>() == 5);
  state.erase("a");
  CHECK(copy.at("a").item<float>() == 5);  // found by names of its own

  const fm::StateDict moved = std::move(copy);
  CHECK(names_of(moved) == Names{"a", "b", "c"});
  CHECK(moved.at("c").numel() == 3);
  state = moved;
  CHECK(names_of(state) == Names{"a", "b", "c"});
  const fm::StateDict& same = state;
  state = same;
  CHECK(names_of(state) == Names{"a", "b", "c"});
}
