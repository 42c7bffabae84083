#include "flowmatch/io/write_file.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "flowmatch/core/error.hpp"
#include "tests/io/files.hpp"
#include "tests/support/grouped_locale.hpp"
#include "tests/support/kill_at_system_call.hpp"
#include "tests/support/test.hpp"

namespace {

namespace fs = std::filesystem;

void save(const fs::path& path, const std::string& text) {
  fm::write_file<fm::DataError>(path, [&](std::ostream& file) { file << text; });
}

}  // namespace

TEST_CASE("write_file: an error of whoever writes leaves the older file alone") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a";
  save(path, "old");
  CHECK_THROWS_AS(fm::write_file<fm::DataError>(path,
                                                [](std::ostream& file) {
                                                  file << "half";
                                                  throw std::runtime_error("on purpose");
                                                }),
                  std::runtime_error);
  CHECK(bytes_of(path) == "old");
  CHECK_FALSE(fs::exists(folder.path() / "a.writing"));
}

TEST_CASE("write_file: numbers do not depend on the program's locale") {
  const TemporaryFolder folder;
  {
    const GroupedLocale grouped;
    fm::write_file<fm::DataError>(folder.path() / "a",
                                  [](std::ostream& file) { file << 1234567 << ' ' << 0.5; });
  }
  CHECK(bytes_of(folder.path() / "a") == "1234567 0.5");
}

TEST_CASE("write_file: a link leads to what is written and a device stays one") {
  const TemporaryFolder folder;
  save(folder.path() / "target", "old");
  fs::create_symlink("target", folder.path() / "link");
  save(folder.path() / "link", "new");
  CHECK(fs::is_symlink(folder.path() / "link"));
  CHECK(bytes_of(folder.path() / "target") == "new");
  // Also to where nothing is yet, and through several.
  fs::create_directory(folder.path() / "in");
  fs::create_symlink("in/between", folder.path() / "first");
  fs::create_symlink(folder.path() / "new target", folder.path() / "in" / "between");
  save(folder.path() / "first", "made");
  CHECK(fs::is_symlink(folder.path() / "first"));
  CHECK(fs::is_symlink(folder.path() / "in" / "between"));
  CHECK(bytes_of(folder.path() / "new target") == "made");
  fs::create_symlink("circle", folder.path() / "circle");
  require_error<fm::DataError>([&] { save(folder.path() / "circle", "x"); }, "cannot write");
  fs::create_symlink("nowhere/a", folder.path() / "lost");
  require_error<fm::DataError>([&] { save(folder.path() / "lost", "x"); }, "cannot write");
  CHECK(fs::is_symlink(folder.path() / "lost"));
  save("/dev/null", "gone");
  CHECK(fs::is_character_file("/dev/null"));
  require_error<fm::DataError>([] { save("/dev/full", "too much"); }, "cannot write /dev/full");
  CHECK(fs::is_character_file("/dev/full"));
}

TEST_CASE("write_file: what a killed program left does not get in") {
  const TemporaryFolder folder;
  write(folder.path() / "a.writing", "a long text of another program");
  save(folder.path() / "a", "new");
  CHECK(bytes_of(folder.path() / "a") == "new");
  CHECK_FALSE(fs::exists(folder.path() / "a.writing"));
}

TEST_CASE("write_file: several writers of one file wait for each other") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a";
  std::vector<std::thread> writers;
  for (const char letter : {'a', 'b', 'c', 'd'}) {
    writers.emplace_back([&path, letter] {
      for (int i = 0; i < 20; ++i) save(path, std::string(10000, letter));
    });
  }
  for (std::thread& writer : writers) writer.join();
  const std::string text = bytes_of(path);
  REQUIRE(text.size() == 10000);
  CHECK(text == std::string(10000, text[0]));
  CHECK_FALSE(fs::exists(folder.path() / "a.writing"));
}

TEST_CASE("write_file: killed at every system call it leaves the old file or the new one whole") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a";
  save(path, "old");
  int calls = 0;
  for (Kill kill = Kill::killed; kill == Kill::killed; ++calls) {
    kill = kill_at_system_call(calls, [&] { save(path, "new"); });
    if (kill == Kill::impossible) {
      WARN("SKIPPED: processes can't be traced here");
      return;
    }
    REQUIRE(kill != Kill::failed);
    const std::string found = bytes_of(path);
    INFO("call " << calls << ": " << found);
    REQUIRE((found == "old" || found == "new"));
    if (kill == Kill::killed) save(path, "old");
  }
  CHECK(calls > 5);
  CHECK(bytes_of(path) == "new");
}
