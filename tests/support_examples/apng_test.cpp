#include "examples/support/apng.hpp"

#include <zlib.h>

#include "flowmatch/core/error.hpp"
#include "flowmatch/io/read_file.hpp"
#include "tests/support/test.hpp"
#include "tests/support_examples/bytes.hpp"

using support::Frame;
using support::Picture;

namespace {

std::uint32_t number(const std::string& text, std::size_t at, std::size_t bytes = 4) {
  std::uint32_t value = 0;
  for (std::size_t i = at; i < at + bytes; ++i)
    value = value << 8U | static_cast<unsigned char>(text.at(i));
  return value;
}

struct Chunk {
  std::string type, data;
};

// The chunks of a PNG, each with the CRC that belongs to it.
std::vector<Chunk> chunks_of(const std::string& png) {
  REQUIRE(png.substr(0, 8) == "\x89PNG\r\n\x1a\n");
  std::vector<Chunk> chunks;
  for (std::size_t at = 8; at < png.size();) {
    const std::size_t size = number(png, at);
    const std::string signed_part = png.substr(at + 4, size + 4);
    REQUIRE(number(png, at + 8 + size) == crc32(0,
                                                reinterpret_cast<const Bytef*>(signed_part.data()),
                                                static_cast<uInt>(signed_part.size())));
    chunks.push_back({signed_part.substr(0, 4), signed_part.substr(4)});
    at += 12 + size;
  }
  return chunks;
}

// The pixels that a frame's data hold, as RGB; by the definition of the filters (PNG, section 9).
std::vector<std::uint8_t> decoded(const std::string& packed, std::size_t width, std::size_t height,
                                  std::size_t channels) {
  const std::size_t row = width * channels;
  std::string bytes((row + 1) * height, '\0');
  uLongf size = bytes.size();
  REQUIRE(uncompress(reinterpret_cast<Bytef*>(bytes.data()), &size,
                     reinterpret_cast<const Bytef*>(packed.data()), packed.size()) == Z_OK);
  REQUIRE(size == bytes.size());
  std::vector<std::uint8_t> pixels;
  std::vector<std::uint8_t> rgb;
  for (std::size_t y = 0; y < height; ++y) {
    const char filter = bytes[y * (row + 1)];
    REQUIRE((filter == 0 || filter == 1 || filter == 2));
    for (std::size_t x = 0; x < row; ++x) {
      std::uint8_t before = 0;
      if (filter == 1 && x >= channels) before = pixels[pixels.size() - channels];
      if (filter == 2 && y > 0) before = pixels[pixels.size() - row];
      pixels.push_back(static_cast<std::uint8_t>(
          static_cast<std::uint8_t>(bytes[y * (row + 1) + 1 + x]) + before));
    }
  }
  for (const std::uint8_t p : pixels) rgb.insert(rgb.end(), channels == 1 ? 3 : 1, p);
  return rgb;
}

Picture noisy(bool coloured, std::uint32_t seed, std::int64_t width = 7, std::int64_t height = 5) {
  Picture picture{width, height, {}};
  for (std::int64_t i = 0; i < width * height; ++i) {
    for (std::size_t c = 0; c < 3; ++c) {
      if (c == 0 || coloured) seed = seed * 1664525U + 1013904223U;
      picture.rgb.push_back(static_cast<std::uint8_t>(seed >> 24U));
    }
  }
  return picture;
}

// Grey noise of which every other row is the one above, or every other column the one on the left,
// and a slope: only the differences to there are small.
Picture paired(bool rows) {
  Picture picture = noisy(false, 5, 64, 40);
  for (std::size_t y = 0; y < 40; ++y) {
    for (std::size_t x = 0; x < 64; ++x) {
      if ((rows ? y : x) % 2 == 0) continue;
      const std::size_t before = (y - (rows ? 1 : 0)) * 64 + x - (rows ? 0 : 1);
      for (std::size_t c = 0; c < 3; ++c) {
        picture.rgb[3 * (y * 64 + x) + c] =
            static_cast<std::uint8_t>(picture.rgb[3 * before + c] + (rows ? x : y));
      }
    }
  }
  return picture;
}

void require_animation(const std::vector<Frame>& frames, std::uint8_t colour_type) {
  const std::string png = support::apng(frames);
  const std::vector<Chunk> chunks = chunks_of(png);
  const auto width = static_cast<std::size_t>(frames[0].picture.width);
  const auto height = static_cast<std::size_t>(frames[0].picture.height);
  const std::size_t channels = colour_type == 0 ? 1 : 3;
  REQUIRE(chunks.size() == 4 + 2 * frames.size());
  REQUIRE(chunks[0].type == "IHDR");
  REQUIRE(number(chunks[0].data, 0) == width);
  REQUIRE(number(chunks[0].data, 4) == height);
  REQUIRE(chunks[0].data.substr(8) == std::string{8, static_cast<char>(colour_type), 0, 0, 0});
  REQUIRE(chunks[1].type == "acTL");
  REQUIRE(number(chunks[1].data, 0) == frames.size());
  REQUIRE(number(chunks[1].data, 4) == 0);  // for ever
  REQUIRE(chunks[2].type == "IDAT");
  REQUIRE(decoded(chunks[2].data, width, height, channels) == frames.back().picture.rgb);
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const Chunk& control = chunks[3 + 2 * i];
    const Chunk& data = chunks[4 + 2 * i];
    REQUIRE(control.type == "fcTL");
    REQUIRE(control.data.size() == 26);
    REQUIRE(number(control.data, 0) == 2 * i);
    REQUIRE(number(control.data, 4) == width);
    REQUIRE(number(control.data, 8) == height);
    REQUIRE(number(control.data, 12) == 0);
    REQUIRE(number(control.data, 16) == 0);
    REQUIRE(number(control.data, 20, 2) == static_cast<std::uint32_t>(frames[i].milliseconds));
    REQUIRE(number(control.data, 22, 2) == 1000);
    REQUIRE(number(control.data, 24, 2) == 0);
    REQUIRE(data.type == "fdAT");
    REQUIRE(number(data.data, 0) == 2 * i + 1);
    REQUIRE(decoded(data.data.substr(4), width, height, channels) == frames[i].picture.rgb);
  }
  REQUIRE(chunks.back().type == "IEND");
  REQUIRE(chunks.back().data.empty());
}

}  // namespace

TEST_CASE("apng: every frame comes back as it was, in grey and in colours") {
  require_animation({{noisy(false, 1), 80}, {noisy(false, 2), 1}, {noisy(false, 3), 65535}}, 0);
  require_animation({{noisy(true, 1), 80}, {noisy(true, 2), 300}}, 2);
  require_animation({{noisy(false, 1), 80}, {noisy(true, 2), 300}}, 2);  // one colour is enough
  require_animation({{noisy(false, 1)}}, 0);
}

TEST_CASE("apng: each filter is chosen where it is best, and is undone") {
  std::string seen;
  for (const Picture& picture : {paired(true), paired(false), noisy(false, 4, 64, 40)}) {
    require_animation({{picture, 80}}, 0);
    const std::string packed = chunks_of(support::apng({{picture, 80}}))[2].data;
    std::string first(1, '\0');
    z_stream stream{};
    REQUIRE(inflateInit(&stream) == Z_OK);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream.avail_in = static_cast<uInt>(packed.size());
    stream.next_out = reinterpret_cast<Bytef*>(first.data());
    stream.avail_out = 1;
    inflate(&stream, Z_SYNC_FLUSH);
    inflateEnd(&stream);
    seen += static_cast<char>('0' + first[0]);
  }
  REQUIRE(seen == "210");
}

TEST_CASE("apng: libpng reads it, as the last frame") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "made" / "animation.png";
  support::write_apng(file, {{noisy(true, 1)}, {noisy(true, 2), 2000}});
  const Picture back = support::read_png(file);
  REQUIRE(back.width == 7);
  REQUIRE(back.height == 5);
  REQUIRE(back.rgb == noisy(true, 2).rgb);
}

TEST_CASE("apng: frames that do not go together are refused, and files that can't be written") {
  require_error<fm::ShapeError>([] { support::apng({}); }, "without frames");
  require_error<fm::ShapeError>([] { support::apng({{Picture{}}}); }, "0 x 0 pixels");
  require_error<fm::ShapeError>(
      [] {
        support::apng({{noisy(true, 1)}, {paired(true)}});
      },
      "64 x 40 pixels");
  require_error<fm::ShapeError>([] { support::apng({{Picture{2, 2, {1, 2, 3}}}}); }, "3 bytes");
  require_error<fm::OptionError>([] { support::apng({{noisy(true, 1), 0}}); }, "stands for 0 ms");
  require_error<fm::OptionError>([] { support::apng({{noisy(true, 1), 65536}}); }, "65536 ms");
  const TemporaryFolder folder;
  write_bytes(folder.path() / "file", bytes_of({1, 2, 3}));
  require_error<fm::DataError>(
      [&] { support::write_apng(folder.path() / "file" / "x.png", {{noisy(true, 1)}}); },
      "cannot write");
}
