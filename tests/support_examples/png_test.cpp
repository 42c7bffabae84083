#include "examples/support/png.hpp"

#include <fstream>

#include "flowmatch/core/error.hpp"
#include "tests/support/test.hpp"
#include "tests/support_examples/bytes.hpp"

namespace fs = std::filesystem;

namespace {

support::Picture gradient(bool coloured) {
  support::Picture picture{5, 3, {}};
  for (std::uint8_t i = 0; i < 15; ++i) {
    for (std::uint8_t c = 0; c < 3; ++c)
      picture.rgb.push_back(static_cast<std::uint8_t>(16 * i + (coloured ? c : 0)));
  }
  return picture;
}

std::size_t files_in(const fs::path& folder) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

// The colour type in the header: 0 grey, 2 RGB.
int colour_type(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  file.seekg(25);
  return file.get();
}

}  // namespace

TEST_CASE("png: a picture comes back as it was written") {
  const TemporaryFolder folder;
  for (const bool coloured : {true, false}) {
    const auto path = folder.path() / "picture.png";
    support::write_png(path, gradient(coloured));
    const support::Picture back = support::read_png(path);
    REQUIRE(back.width == 5);
    REQUIRE(back.height == 3);
    REQUIRE(back.rgb == gradient(coloured).rgb);
    REQUIRE(colour_type(path) == (coloured ? 2 : 0));
  }
  REQUIRE(files_in(folder.path()) == 1);  // no temporary file stays
}

TEST_CASE("png: missing folders are made") {
  const TemporaryFolder folder;
  support::write_png(folder.path() / "a" / "b" / "picture.png", gradient(true));
  REQUIRE(fs::exists(folder.path() / "a" / "b" / "picture.png"));
}

TEST_CASE("png: what cannot be written is a data error and leaves what was there") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "file";
  write_bytes(file, bytes_of({1, 2, 3}));
  require_error<fm::DataError>([&] { support::write_png(file / "picture.png", gradient(true)); },
                               "cannot write");
  REQUIRE(fs::file_size(file) == 3);
  const auto taken = folder.path() / "taken";
  fs::create_directories(taken / "inside");
  require_error<fm::DataError>([&] { support::write_png(taken, gradient(true)); },
                               "check the folder");
  REQUIRE(fs::exists(taken / "inside"));
  REQUIRE(files_in(folder.path()) == 2);
}

TEST_CASE("png: a path is checked before the work and nothing stays of that") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "picture.png";
  support::write_png(path, gradient(true));
  const auto size = fs::file_size(path);
  support::check_picture_path(path);
  support::check_picture_path(folder.path() / "other.png");
  REQUIRE(fs::file_size(path) == size);
  REQUIRE(files_in(folder.path()) == 1);
  require_error<fm::DataError>([&] { support::check_picture_path(folder.path()); }, "is a folder");
  require_error<fm::DataError>([&] { support::check_picture_path(path / "picture.png"); },
                               "no file can be made");
}

TEST_CASE("png: a picture without pixels or with too few bytes is refused") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "picture.png";
  require_error<fm::ShapeError>([&] { support::write_png(path, {}); }, "0 x 0 pixels");
  require_error<fm::ShapeError>([&] { support::write_png(path, {2, 2, {1, 2, 3}}); }, "3 bytes");
  REQUIRE(files_in(folder.path()) == 0);
}

TEST_CASE("png: reading refuses missing files and junk and cut files") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "picture.png";
  require_error<fm::DataError>([&] { support::read_png(path); }, "cannot read");
  write_bytes(path, Bytes(100, std::byte{7}));
  require_error<fm::DataError>([&] { support::read_png(path); }, "as PNG");
  support::write_png(path, gradient(true));
  fs::resize_file(path, fs::file_size(path) - 20);
  require_error<fm::DataError>([&] { support::read_png(path); }, "cannot read");
}

TEST_CASE("png: reading refuses huge declared sizes") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "picture.png";
  support::write_png(path, gradient(true));
  Bytes bytes(fs::file_size(path));
  std::ifstream(path, std::ios::binary)
      .read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  for (const std::size_t at : {16U, 20U}) {  // width and height: 65536 pixels each
    for (std::size_t i = 0; i < 4; ++i) bytes[at + i] = static_cast<std::byte>(i == 1 ? 1 : 0);
  }
  const uLong crc = crc32(0, reinterpret_cast<const Bytef*>(bytes.data() + 12), 17);
  for (std::size_t i = 0; i < 4; ++i)
    bytes[29 + i] = static_cast<std::byte>(crc >> (24 - 8 * i) & 0xFFU);
  write_bytes(path, bytes);
  require_error<fm::DataError>([&] { support::read_png(path); }, "65536 x 65536");
}
