#include "flowmatch/core/write_file.hpp"

#include <string>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/read_file.hpp"
#include "tests/support/test.hpp"

TEST_CASE("write_file: what is written is read back and an older file replaced") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "file";
  const std::string bytes("a\0b\r\n\xff", 6);
  fm::write_file<fm::DataError>(path, bytes + bytes);
  fm::write_file<fm::DataError>(path, bytes);
  REQUIRE(fm::read_file<fm::DataError>(path) == bytes);
  fm::write_file<fm::DataError>(path, "");
  REQUIRE(fm::read_file<fm::DataError>(path).empty());
}

TEST_CASE("write_file: a missing folder and a full disk are errors") {
  const TemporaryFolder folder;
  require_error<fm::CheckpointError>(
      [&] { fm::write_file<fm::CheckpointError>(folder.path() / "no" / "file", "x"); }, "has room");
  if (std::filesystem::exists("/dev/full")) {
    require_error<fm::DataError>([] { fm::write_file<fm::DataError>("/dev/full", "x"); },
                                 "cannot write /dev/full");
  }
}
