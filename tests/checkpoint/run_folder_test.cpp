#include "flowmatch/checkpoint/run_folder.hpp"

#include <sys/fsuid.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/test.hpp"

namespace fs = std::filesystem;

namespace {

/// A checkpoint that is nothing but a manifest.
void write_manifest(const fs::path& folder, int step, const fm::RunFolder* run) {
  fm::Manifest manifest;
  manifest.set("step", step);
  if (run != nullptr) run->describe(manifest);
  const fs::path path = folder / ("step-00000000" + std::to_string(step));
  fs::create_directories(path);
  std::ofstream(path / "manifest.txt", std::ios::binary) << manifest.to_text();
}

std::vector<std::string> numbers_in(const fs::path& folder) {
  std::vector<std::string> all;
  for (const auto& path : fm::list_checkpoints(folder)) all.push_back(path.filename().string());
  return all;
}
using Numbers = std::vector<std::string>;

}  // namespace

TEST_CASE("run_folder: each run has an identity of its own that its checkpoints carry") {
  const TemporaryFolder folder;
  fm::RunFolder a(folder.path() / "a");
  fm::RunFolder b(folder.path() / "b");
  a.claim(0);
  b.claim(0);
  fm::Manifest of_a, of_b, resumed;
  a.describe(of_a);
  b.describe(of_b);
  CHECK(of_a.get("run").size() == 16);
  CHECK(of_a.get("run") != of_b.get("run"));
  fm::RunFolder again(folder.path() / "a");
  again.adopt(of_a);
  again.claim(0);
  again.describe(resumed);
  CHECK(resumed.get("run") == of_a.get("run"));
}

TEST_CASE("run_folder: its own stay and other runs' are refused or set aside") {
  const TemporaryFolder folder;
  fm::RunFolder run(folder.path());
  run.claim(0);
  write_manifest(folder.path(), 1, &run);
  write_manifest(folder.path(), 2, &run);
  run.claim(2);
  CHECK(numbers_in(folder.path()) == Numbers{"step-000000001", "step-000000002"});
  run.claim(1);  // the second will be made again
  CHECK(numbers_in(folder.path()) == Numbers{"step-000000001"});
  CHECK(numbers_in(folder.path() / "set-aside-1") == Numbers{"step-000000002"});

  fm::RunFolder other(folder.path());
  for (int i = 0; i < 2; ++i)
    require_error<fm::CheckpointError>([&] { other.claim(5); }, "step-000000001");
  CHECK(numbers_in(folder.path()) == Numbers{"step-000000001"});
  fm::RunFolder asking(folder.path(), true);
  asking.claim(0);
  CHECK(numbers_in(folder.path()).empty());
  CHECK(numbers_in(folder.path() / "set-aside-2") == Numbers{"step-000000001"});
}

TEST_CASE("run_folder: one whose manifest cannot be read is another's before a run has begun") {
  const TemporaryFolder folder;
  fs::create_directory(folder.path() / "step-000000001");
  fm::RunFolder fresh(folder.path());
  for (int i = 0; i < 2; ++i)
    require_error<fm::CheckpointError>([&] { fresh.claim(5); }, "another run");
  fm::RunFolder resumed(folder.path());
  resumed.adopt(fm::Manifest());
  resumed.claim(5);
  CHECK(numbers_in(folder.path() / "set-aside-1") == Numbers{"step-000000001"});
}

TEST_CASE("run_folder: what cannot be set aside is said and stays where it is") {
  const TemporaryFolder folder;
  fm::RunFolder other(folder.path());
  other.claim(0);
  write_manifest(folder.path(), 1, &other);
  fs::permissions(folder.path(), fs::perms(0555));
  const bool root = ::geteuid() == 0;  // whom permissions do not stop
  if (root) ::setfsuid(65534);
  fm::RunFolder run(folder.path(), /*set_aside_other_runs=*/true);
  try {
    run.claim(0);
    FAIL("claimed");
  } catch (const fm::CheckpointError& error) {
    CHECK_THAT(error.what(), ContainsSubstring("cannot move checkpoints to"));
  }
  if (root) ::setfsuid(0);
  fs::permissions(folder.path(), fs::perms(0755));
  CHECK(numbers_in(folder.path()) == Numbers{"step-000000001"});
}

TEST_CASE("run_folder: a relative one stays where it is when the program goes elsewhere") {
  const TemporaryFolder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  fm::RunFolder run("run");
  fs::current_path(before);
  CHECK(fs::equivalent(run.path().parent_path(), folder.path()));
  CHECK(run.path().is_absolute());
  const auto lock = run.begin(0);
  CHECK(fs::exists(folder.path() / "run"));
  CHECK(fs::is_empty(folder.path() / "run"));
  CHECK(fm::RunFolder("").empty());
}
