#include "flowmatch/checkpoint/folder_lock.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "tests/support/test.hpp"

namespace fs = std::filesystem;

TEST_CASE("folder_lock: one at a time holds a folder and no file is left in it") {
  const TemporaryFolder folder;
  const fs::path run = folder.path() / "new" / "run";
  auto first = std::make_unique<fm::FolderLock>(run);
  CHECK(fs::is_empty(run));
  require_error<fm::CheckpointError>([&] { fm::FolderLock second(run); }, run.string());
  require_error<fm::CheckpointError>([&] { fm::FolderLock second(run); },
                                     "(another trainer of this program); wait for its end");
  const fm::FolderLock elsewhere(folder.path());  // beside it is another folder
  first.reset();
  const fm::FolderLock again(run);
  CHECK(fs::is_empty(run));
}

TEST_CASE("folder_lock: a folder that cannot be made is an error with the remedy") {
  const TemporaryFolder folder;
  std::ofstream(folder.path() / "file") << "x";
  require_error<fm::CheckpointError>([&] { fm::FolderLock lock(folder.path() / "file"); },
                                     "check the folder's permissions");
}
