#include "flowmatch/io/tensorboard.hpp"

#include <cmath>
#include <string>
#include <vector>

#include "flowmatch/io/read_file.hpp"
#include "tests/support/test.hpp"

namespace fs = std::filesystem;
namespace tb = flowmatch::detail::tensorboard;

namespace {

const fs::path golden = fs::path(FLOWMATCH_SOURCE_DIR) / "tests" / "io" / "golden";

std::string read(const fs::path& path) { return fm::read_file<fm::DataError>(path); }

std::string event(double time, std::int64_t step, const std::string& what) {
  return tb::record(tb::event(time, step, what));
}

/// The data of the records in a file, each found whole.
std::vector<std::string> records(const std::string& bytes) {
  std::vector<std::string> found;
  std::size_t at = 0;
  while (at < bytes.size()) {
    const auto size = static_cast<unsigned char>(bytes.at(at));  // all are short here
    found.push_back(bytes.substr(at + 12, size));
    REQUIRE(bytes.substr(at, size + 16U) == tb::record(found.back()));
    at += size + 16U;
  }
  return found;
}

}  // namespace

TEST_CASE("tensorboard: events are the bytes that TensorBoard's own writer makes") {
  // Made by RecordWriter and the protocol buffers of tensorboard 2.21.
  const std::string png = read(golden / "picture.png");
  const std::string expected = event(1700000000.25, 0, tb::version()) +
                               event(1700000000.5, 11, tb::start()) +
                               event(1700000001, 0, tb::scalar("train/loss", 0)) +
                               event(1700000002, 300, tb::scalar("train/loss", -1.5)) +
                               event(1700000003, std::int64_t{1} << 40, tb::scalar("x", infinity)) +
                               event(1700000004, 7, tb::image("samples", png, 200, 3, 3));
  CHECK(expected == read(golden / "tensorboard.tfevents"));
}

TEST_CASE("tensorboard: a writer makes its folder and one file of whole records") {
  const TemporaryFolder folder;
  fm::TensorBoardWriter writer(folder.path() / "a" / "b");
  writer.scalar("loss", 0.5, 1);
  writer.image("picture", "png", 2, 2, 1, 1);
  writer.flush();
  CHECK(writer.path().parent_path() == folder.path() / "a" / "b");
  CHECK(writer.path().filename().string().rfind("events.out.tfevents.", 0) == 0);
  const std::vector<std::string> found = records(read(writer.path()));
  REQUIRE(found.size() == 3);
  CHECK(found[0].find("brain.Event:2") != std::string::npos);
  CHECK(found[1].substr(9) == tb::event(0, 1, tb::scalar("loss", 0.5)));  // behind the wall time
  CHECK(found[2].substr(9) == tb::event(0, 1, tb::image("picture", "png", 2, 2, 1)));
}

TEST_CASE("tensorboard: a run that goes on tells TensorBoard from which step on to forget") {
  const TemporaryFolder folder;
  fm::TensorBoardWriter first(folder.path());
  fm::TensorBoardWriter second(folder.path(), 10);
  CHECK(first.path().filename() < second.path().filename());
  first.flush();
  second.flush();
  CHECK(fs::is_empty(folder.path()));  // a run that is refused makes it forget nothing
  first.scalar("loss", 0.5, 1);
  second.scalar("loss", 0.5, 11);
  first.flush();
  second.flush();
  CHECK(records(read(first.path())).size() == 2);
  const std::vector<std::string> found = records(read(second.path()));
  REQUIRE(found.size() == 3);
  CHECK(found[0].find("brain.Event:2") != std::string::npos);
  CHECK(found[1].substr(9) == tb::event(0, 11, tb::start()));
  CHECK(found[2].substr(9) == tb::event(0, 11, tb::scalar("loss", 0.5)));
  second.restart(9);
  second.restart(10);
  second.scalar("loss", 0.5, 10);
  second.flush();
  CHECK(records(read(second.path()))[3].substr(9) == tb::event(0, 9, tb::start()));
  CHECK(records(read(second.path())).size() == 5);
}

TEST_CASE("tensorboard: a file that cannot be written is a data error") {
  const TemporaryFolder folder;
  std::ofstream(folder.path() / "file") << "x";
  require_error<fm::DataError>([&] { fm::TensorBoardWriter(folder.path() / "file"); },
                               "cannot write");
}
