#include "examples/support/output_path.hpp"

#include <fstream>

#include "flowmatch/core/error.hpp"
#include "tests/support/test.hpp"

namespace fs = std::filesystem;

TEST_CASE("output path: extensions are compared in small letters") {
  CHECK(support::extension_of("a.b/x.PnG") == ".png");
  CHECK(support::extension_of("a.b/x") == "");
  CHECK(support::extension_of("runs/.hidden") == "");
  CHECK(support::extension_of("x.tar.GZ") == ".gz");
}

TEST_CASE("output path: files of unknown kinds are refused, folders are not") {
  const TemporaryFolder folder;
  const std::vector<std::string> known = {".npy", ".png"};
  for (const char* name : {"x.npy", "x.PNG", "x", "a/b/"})
    CHECK_NOTHROW(support::check_extension(folder.path() / name, known));
  const auto check = [&] { support::check_extension(folder.path() / "v1.2", known); };
  require_error<fm::OptionError>(check, "unknown kind; choose .npy, .png, or the name of a folder");
  fs::create_directory(folder.path() / "v1.2");
  CHECK_NOTHROW(check());
}

TEST_CASE("output path: two options of one path are refused, however it is written") {
  const TemporaryFolder folder;
  const fs::path& dir = folder.path();
  const auto check = [&](const fs::path& a, const fs::path& b) {
    support::check_apart({{"--out", a}, {"--between", {}}, {"--field", b}});
  };
  CHECK_NOTHROW(check(dir / "a.png", dir / "b.png"));
  CHECK_NOTHROW(check("", ""));
  const std::string message = "--out and --field are both";
  require_error<fm::OptionError>([&] { check(dir / "a.png", dir / "." / "a.png"); }, message);
  require_error<fm::OptionError>([&] { check("a.png", "./nowhere/../a.png"); }, message);
  require_error<fm::OptionError>([&] { check(dir / "run", dir / "run" / ""); }, message);
  fs::create_directory_symlink(dir, dir / "link");
  require_error<fm::OptionError>([&] { check(dir / "a.png", dir / "link" / "a.png"); }, message);
}
