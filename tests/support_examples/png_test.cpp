#include "examples/support/png.hpp"

#include <fstream>
#include <optional>
#include <string>
#include <vector>

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

// A PNG as others write them, of one row of raw samples; `clear`: the grey that is transparent.
void write_raw_png(const fs::path& path, int width, int depth, int colour,
                   const std::vector<int>& samples, std::optional<int> clear = {}) {
  Bytes file = bytes_of({0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'});
  const auto add_number = [&](std::size_t n) {
    for (const unsigned shift : {24U, 16U, 8U, 0U})
      file.push_back(static_cast<std::byte>(n >> shift & 0xFFU));
  };
  const auto add_chunk = [&](const std::string& type, const Bytes& data) {
    add_number(data.size());
    const std::size_t begin = file.size();
    for (const char c : type) file.push_back(static_cast<std::byte>(c));
    file.insert(file.end(), data.begin(), data.end());
    add_number(crc32(0, reinterpret_cast<const Bytef*>(file.data() + begin),
                     static_cast<uInt>(file.size() - begin)));
  };
  add_chunk("IHDR", bytes_of({0, 0, 0, width, 0, 0, 0, 1, depth, colour, 0, 0, 0}));
  if (clear) add_chunk("tRNS", bytes_of({0, *clear}));
  Bytes row = bytes_of({0});  // no filter
  for (const int sample : samples) row.push_back(static_cast<std::byte>(sample));
  Bytes packed(compressBound(static_cast<uLong>(row.size())));
  uLongf size = packed.size();
  REQUIRE(compress(reinterpret_cast<Bytef*>(packed.data()), &size,
                   reinterpret_cast<const Bytef*>(row.data()),
                   static_cast<uLong>(row.size())) == Z_OK);
  packed.resize(size);
  add_chunk("IDAT", packed);
  add_chunk("IEND", {});
  write_bytes(path, file);
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

TEST_CASE("png: 16 bits a channel are read by their upper ones, as sRGB") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "picture.png";
  write_raw_png(path, 2, 16, 0, {128, 128, 7, 7});
  CHECK(support::read_png(path).rgb == std::vector<std::uint8_t>{128, 128, 128, 7, 7, 7});
  write_raw_png(path, 1, 16, 2, {1, 1, 100, 100, 255, 255});
  CHECK(support::read_png(path).rgb == std::vector<std::uint8_t>{1, 100, 255});
}

TEST_CASE("png: transparent pixels are refused, opaque ones keep their colours") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "picture.png";
  write_raw_png(path, 2, 8, 6, {10, 20, 30, 255, 40, 50, 60, 255});
  CHECK(support::read_png(path).rgb == std::vector<std::uint8_t>{10, 20, 30, 40, 50, 60});
  write_raw_png(path, 2, 8, 4, {128, 255, 9, 255});
  CHECK(support::read_png(path).rgb == std::vector<std::uint8_t>{128, 128, 128, 9, 9, 9});
  const auto read = [&] { support::read_png(path); };
  const std::string message = "has transparent pixels; lay it over a background";
  write_raw_png(path, 2, 8, 6, {10, 20, 30, 255, 255, 255, 255, 0});
  require_error<fm::DataError>(read, message);
  write_raw_png(path, 1, 8, 4, {128, 128});
  require_error<fm::DataError>(read, message);
  write_raw_png(path, 2, 8, 0, {5, 6}, 5);  // the grey of 5 is transparent
  require_error<fm::DataError>(read, message);
  write_raw_png(path, 2, 8, 0, {5, 6}, 7);
  CHECK(support::read_png(path).rgb == std::vector<std::uint8_t>{5, 5, 5, 6, 6, 6});
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
