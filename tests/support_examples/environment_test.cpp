#include "examples/support/environment.hpp"

#include <ATen/Parallel.h>

#include <fstream>

#include "flowmatch/core/error.hpp"
#include "tests/support/test.hpp"
#include "tests/support_examples/bytes.hpp"

using support::Entries;

TEST_CASE("environment: it names versions, threads and device, all on one line") {
  const Entries entries = support::environment(c10::kCPU);
  const auto get = [&](const std::string& name) -> std::string {
    for (const auto& [key, value] : entries) {
      if (key == name) return value;
    }
    FAIL("no entry " << name);
    return "";
  };
  REQUIRE(get("LibTorch") == TORCH_VERSION);
  REQUIRE(get("device") == "cpu");
  REQUIRE(get("threads") == std::to_string(at::get_num_threads()));
  REQUIRE(get("started").size() == std::string("2000-01-01 00:00:00 UTC").size());
  for (const auto& [key, value] : entries) {
    INFO(key);
    REQUIRE(!value.empty());
    REQUIRE(value.find('\n') == std::string::npos);
  }
}

TEST_CASE("environment: a command line is as a shell takes it") {
  const char* const words[] = {"build/train", "--out", "my runs/it's", "", "a\nb", "x=1,2"};
  REQUIRE(support::command_line(6, words) == "build/train --out 'my runs/it'\\''s' '' 'a b' x=1,2");
  REQUIRE(support::command_line(0, words).empty());
}

TEST_CASE("environment: blocks come back in order, and a resumed run adds one") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "environment.txt";
  REQUIRE(support::read_entries(file).empty());
  const Entries first = {{"command", "train --x: 1"}, {"empty", ""}};
  const Entries second = {{"command", "train --resume"}};
  support::append_entries(file, first);
  support::append_entries(file, second);
  REQUIRE(support::read_entries(file) == std::vector<Entries>{first, second});
  std::ofstream(file, std::ios::app) << "cut off";
  REQUIRE(support::read_entries(file) == std::vector<Entries>{first, second});
}

TEST_CASE("environment: what can't be written or read is a data error") {
  const TemporaryFolder folder;
  require_error<fm::DataError>(
      [&] {
        support::append_entries(folder.path() / "no" / "file", {{"a", "b"}});
      },
      "cannot write");
  require_error<fm::DataError>([&] { support::read_entries(folder.path()); }, "there is no file");
}
