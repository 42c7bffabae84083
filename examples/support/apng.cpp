#include "examples/support/apng.hpp"

#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <system_error>

#include "flowmatch/core/error.hpp"
#include "flowmatch/io/write_file.hpp"

namespace support {

namespace {

// The highest byte first, as everywhere in PNG.
std::string big_endian(std::uint32_t value, int bytes) {
  std::string text;
  for (int i = bytes - 1; i >= 0; --i) text += static_cast<char>(value >> (8 * i) & 0xFFU);
  return text;
}
std::string four(std::uint32_t value) { return big_endian(value, 4); }
std::string two(int value) { return big_endian(static_cast<std::uint32_t>(value), 2); }

std::string chunk(const std::string& type, const std::string& data) {
  const std::string signed_part = type + data;
  const uLong crc = crc32(0, reinterpret_cast<const Bytef*>(signed_part.data()),
                          static_cast<uInt>(signed_part.size()));
  return four(static_cast<std::uint32_t>(data.size())) + signed_part +
         four(static_cast<std::uint32_t>(crc));
}

enum Filter { none = 0, sub = 1, up = 2 };

// Each row behind its filter's number: as it is, or its differences to the pixel on the left or
// above.
std::string filtered(const std::string& pixels, std::size_t row, std::size_t channels,
                     Filter filter) {
  std::string out;
  for (std::size_t i = 0; i < pixels.size(); ++i) {
    if (i % row == 0) out += static_cast<char>(filter);
    char before = 0;
    if (filter == sub && i % row >= channels) before = pixels[i - channels];
    if (filter == up && i >= row) before = pixels[i - row];
    out += static_cast<char>(pixels[i] - before);
  }
  return out;
}

std::string deflated(const std::string& bytes) {
  uLongf size = compressBound(static_cast<uLong>(bytes.size()));
  std::string out(size, '\0');
  compress2(reinterpret_cast<Bytef*>(out.data()), &size,
            reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uLong>(bytes.size()), 9);
  out.resize(size);
  return out;
}

// A frame's pixels by the filter that makes them smallest: noise by none, enlarged pixels by up.
std::string packed(const Picture& picture, bool grey) {
  const std::size_t channels = grey ? 1 : 3;
  std::string pixels;
  for (std::size_t i = 0; i < picture.rgb.size(); i += grey ? 3 : 1)
    pixels += static_cast<char>(picture.rgb[i]);
  const std::size_t row = channels * static_cast<std::size_t>(picture.width);
  std::string best;
  for (const Filter filter : {none, sub, up}) {
    std::string candidate = deflated(filtered(pixels, row, channels, filter));
    if (best.empty() || candidate.size() < best.size()) best = std::move(candidate);
  }
  return best;
}

void check(const std::vector<Frame>& frames) {
  if (frames.empty()) throw flowmatch::ShapeError("an animation without frames; give at least one");
  const Picture& first = frames.front().picture;
  for (const Frame& frame : frames) {
    const Picture& p = frame.picture;
    if (p.width < 1 || p.height < 1 || p.width != first.width || p.height != first.height ||
        p.rgb.size() != static_cast<std::size_t>(3 * p.width * p.height)) {
      throw flowmatch::ShapeError("a frame of " + std::to_string(p.width) + " x " +
                                  std::to_string(p.height) + " pixels with " +
                                  std::to_string(p.rgb.size()) +
                                  " bytes; give all frames one size and each pixel three bytes");
    }
    if (frame.milliseconds < 1 || frame.milliseconds > 65535) {
      throw flowmatch::OptionError("a frame that stands for " + std::to_string(frame.milliseconds) +
                                   " ms; choose 1 to 65535");
    }
  }
}

}  // namespace

std::string apng(const std::vector<Frame>& frames) {
  check(frames);
  const bool grey = std::all_of(frames.begin(), frames.end(),
                                [](const Frame& frame) { return is_grey(frame.picture); });
  const Picture& last = frames.back().picture;
  const std::string size =
      four(static_cast<std::uint32_t>(last.width)) + four(static_cast<std::uint32_t>(last.height));
  const std::string depth_and_colour = {8, static_cast<char>(grey ? 0 : 2), 0, 0, 0};
  std::string file = "\x89PNG\r\n\x1a\n" + chunk("IHDR", size + depth_and_colour) +
                     chunk("acTL", four(static_cast<std::uint32_t>(frames.size())) + four(0)) +
                     // Without an fcTL before it, this is the still picture and no frame.
                     chunk("IDAT", packed(last, grey));
  std::uint32_t sequence = 0;
  for (const Frame& frame : frames) {
    const std::string offset_and_delay = four(0) + four(0) + two(frame.milliseconds) + two(1000);
    const std::string replace_all(2, '\0');  // neither disposed of nor blended
    file += chunk("fcTL", four(sequence++) + size + offset_and_delay + replace_all);
    file += chunk("fdAT", four(sequence++) + packed(frame.picture, grey));
  }
  return file + chunk("IEND", "");
}

void write_apng(const std::filesystem::path& path, const std::vector<Frame>& frames) {
  const std::string bytes = apng(frames);
  std::error_code ignored;  // write_file reports a folder that is not there
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), ignored);
  flowmatch::write_file<flowmatch::DataError>(path, [&](std::ostream& out) { out << bytes; });
}

}  // namespace support
