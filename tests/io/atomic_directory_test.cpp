#include "flowmatch/io/atomic_directory.hpp"

#include <dlfcn.h>

#include <fstream>
#include <set>
#include <stdexcept>

#include "tests/io/files.hpp"
#include "tests/support/kill_at_system_call.hpp"
#include "tests/support/test.hpp"

namespace {

using Path = std::filesystem::path;

std::set<std::string> names_in(const Path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.insert(entry.path().filename().string());
  return names;
}

using Names = std::set<std::string>;

}  // namespace

TEST_CASE("atomic_directory: it appears whole at the commit and not before") {
  const TemporaryFolder folder;
  const Path target = folder.path() / "run";
  fm::AtomicDirectory directory(target);
  write(directory.path() / "a", "1");
  write(directory.path() / "b", "2");
  CHECK_FALSE(std::filesystem::exists(target));
  CHECK(directory.path().parent_path() == folder.path());  // a rename needs the same file system
  directory.commit();
  CHECK(names_in(target) == Names{"a", "b"});
  CHECK(bytes_of(target / "b") == "2");
  CHECK(names_in(folder.path()) == Names{"run"});
}

// LibTorch's wheels export parts of std::filesystem, of which remove_all jumps to nowhere in
// CUDA's.
TEST_CASE("atomic_directory: folders are removed by the system's library") {
  using RemoveAll = std::uintmax_t (*)(const Path&, std::error_code&);
  Dl_info found{};
  REQUIRE(dladdr(reinterpret_cast<void*>(static_cast<RemoveAll>(&std::filesystem::remove_all)),
                 &found) != 0);
  INFO(found.dli_fname);
  CHECK(std::string(found.dli_fname).find("libtorch") == std::string::npos);
}

TEST_CASE("path_lock: given free twice, it closes nobody else's file") {
  const TemporaryFolder folder;
  fm::PathLock lock(folder.path(), O_RDONLY | O_DIRECTORY, fm::PathLock::Wait::no);
  CHECK(lock.is_open());
  lock.release();
  CHECK_FALSE(lock.is_open());
  const int other = ::open("/dev/null", O_RDONLY);  // gets the number that is free
  lock.release();
  CHECK(::fcntl(other, F_GETFD) != -1);
  ::close(other);
}

TEST_CASE("atomic_directory: without a commit nothing stays") {
  const TemporaryFolder folder;
  {
    const fm::AtomicDirectory directory(folder.path() / "run");
    write(directory.path() / "a", "1");
  }
  CHECK(names_in(folder.path()).empty());
  const auto fail = [&] {
    const fm::AtomicDirectory directory(folder.path() / "run");
    write(directory.path() / "a", "1");
    throw std::runtime_error("on purpose");
  };
  CHECK_THROWS_AS(fail(), std::runtime_error);
  CHECK(names_in(folder.path()).empty());
}

TEST_CASE("atomic_directory: an older one is replaced entirely and stays without a commit") {
  const TemporaryFolder folder;
  const Path target = folder.path() / "run";
  std::filesystem::create_directories(target / "sub");
  write(target / "old", "old");
  {
    const fm::AtomicDirectory abandoned(target);
    write(abandoned.path() / "new", "new");
  }
  CHECK(bytes_of(target / "old") == "old");
  fm::AtomicDirectory directory(target);
  write(directory.path() / "new", "new");
  CHECK(bytes_of(target / "old") == "old");
  directory.commit();
  CHECK(names_in(target) == Names{"new"});
  CHECK(names_in(folder.path()) == Names{"run"});
}

TEST_CASE("atomic_directory: what an interrupted run left does not get in") {
  const TemporaryFolder folder;
  const Path target = folder.path() / "run";
  Path temporary;
  {
    const fm::AtomicDirectory first(target);
    temporary = first.path();
  }
  std::filesystem::create_directories(temporary);
  write(temporary / "half", "written");
  fm::AtomicDirectory directory(target);
  write(directory.path() / "a", "1");
  directory.commit();
  CHECK(names_in(target) == Names{"a"});
  CHECK(names_in(folder.path()) == Names{"run"});
}

TEST_CASE("atomic_directory: missing parents are made and a slash at the end is no matter") {
  const TemporaryFolder folder;
  fm::AtomicDirectory directory(folder.path() / "x" / "y" / "run/");
  write(directory.path() / "a", "1");
  directory.commit();
  CHECK(names_in(folder.path() / "x" / "y") == Names{"run"});
  CHECK(bytes_of(folder.path() / "x" / "y" / "run" / "a") == "1");
}

TEST_CASE("atomic_directory: an empty one can be committed") {
  const TemporaryFolder folder;
  fm::AtomicDirectory directory(folder.path() / "run");
  directory.commit();
  CHECK(std::filesystem::is_empty(folder.path() / "run"));
}

TEST_CASE("atomic_directory: failures are typed and the older one survives them") {
  const TemporaryFolder folder;
  write(folder.path() / "file", "in the way");
  require_error<fm::CheckpointError>([&] { fm::AtomicDirectory(folder.path() / "file" / "run"); },
                                     "cannot create");

  const Path target = folder.path() / "run";
  std::filesystem::create_directories(target);
  write(target / "old", "old");
  fm::AtomicDirectory directory(target);
  std::filesystem::remove_all(directory.path());
  require_error<fm::CheckpointError>([&] { directory.commit(); }, "cannot read");
  CHECK(bytes_of(target / "old") == "old");
}

TEST_CASE("atomic_directory: a moment without the exchange of names leaves nothing behind either") {
  const TemporaryFolder folder;
  const Path target = folder.path() / "run";
  for (const char* text : {"first", "second"}) {
    fm::AtomicDirectory directory(target, false);
    write(directory.path() / text, text);
    directory.commit();
    CHECK(names_in(target) == Names{text});
    CHECK(names_in(folder.path()) == Names{"run"});
  }
}

TEST_CASE(
    "atomic_directory: a second writer of the same directory is told so and disturbs nothing") {
  const TemporaryFolder folder;
  const Path target = folder.path() / "run";
  fm::AtomicDirectory first(target);
  write(first.path() / "a", "1");
  require_error<fm::CheckpointError>([&] { fm::AtomicDirectory second(target); },
                                     "another process writes " + target.string());
  fm::remove_leftovers(folder.path());
  CHECK(bytes_of(first.path() / "a") == "1");
  first.commit();
  CHECK(names_in(target) == Names{"a"});
  fm::AtomicDirectory later(target);  // although the first one still lives
  write(later.path() / "b", "2");
  later.commit();
  CHECK(names_in(target) == Names{"b"});
}

TEST_CASE("atomic_directory: what was moved aside comes back and leftovers go") {
  const TemporaryFolder folder;
  const auto make = [&](const std::string& name, const std::string& text) {
    std::filesystem::create_directories(folder.path() / name);
    write(folder.path() / name / "a", text);
  };
  make(".replaced-lost", "old");
  make(".replaced-there", "old");
  make("there", "new");
  make(".writing-half", "half");
  fm::recover_replaced(folder.path());
  CHECK(names_in(folder.path()) == Names{"lost", "there", ".replaced-there", ".writing-half"});
  CHECK(bytes_of(folder.path() / "lost" / "a") == "old");
  CHECK(bytes_of(folder.path() / "there" / "a") == "new");
  fm::remove_leftovers(folder.path());
  CHECK(names_in(folder.path()) == Names{"lost", "there"});
  CHECK_NOTHROW(fm::recover_replaced(folder.path() / "none"));
  CHECK_NOTHROW(fm::remove_leftovers(folder.path() / "none"));
}

TEST_CASE(
    "atomic_directory: killed at every system call it leaves the old one or the new one whole") {
  for (const bool can_exchange : {true, false}) {
    INFO("exchange of names: " << can_exchange);
    const TemporaryFolder folder;
    const Path target = folder.path() / "run";
    const auto save = [&](const std::string& text) {
      fm::AtomicDirectory directory(target, can_exchange);
      write(directory.path() / "a", text);
      write(directory.path() / "b", text);
      directory.commit();
    };
    save("old");
    std::set<std::string> seen;
    int calls = 0;
    for (Kill kill = Kill::killed; kill == Kill::killed; ++calls) {
      kill = kill_at_system_call(calls, [&] { save("new"); });
      if (kill == Kill::impossible) {
        WARN("SKIPPED: processes can't be traced here");
        return;
      }
      REQUIRE(kill != Kill::failed);
      fm::recover_replaced(folder.path());
      INFO("call " << calls);
      REQUIRE(names_in(target) == Names{"a", "b"});
      const std::string found = bytes_of(target / "a");
      REQUIRE((found == "old" || found == "new"));
      REQUIRE(bytes_of(target / "b") == found);
      seen.insert(found);
      if (found == "new" && kill == Kill::killed) {
        save("old");
        REQUIRE(names_in(folder.path()) == Names{"run"});  // what was left is gone
      }
    }
    CHECK(calls > 20);
    CHECK(seen == std::set<std::string>{"old", "new"});
    CHECK(bytes_of(target / "a") == "new");
    CHECK(names_in(folder.path()) == Names{"run"});
  }
}
