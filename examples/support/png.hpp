#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace support {

/// A picture: RGB, 8 bits a channel, row by row.
struct Picture {
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::vector<std::uint8_t> rgb;
};

/// Whether no pixel has a colour.
bool is_grey(const Picture& picture);

/// Writes a PNG, grey where no pixel has a colour: under a temporary name first, so that an older
/// file survives a failure. Throws flowmatch::DataError where it can't be written, ShapeError
/// for a picture without pixels.
void write_png(const std::filesystem::path& path, const Picture& picture);

/// Throws flowmatch::DataError for a path where no picture can be written: ask before long work.
void check_picture_path(const std::filesystem::path& path);

/// Reads any PNG as RGB; of 16 bits a channel the upper ones count. Throws flowmatch::DataError for
/// what is none, has transparent pixels, or is larger than 256 MiB.
Picture read_png(const std::filesystem::path& path);

}  // namespace support
