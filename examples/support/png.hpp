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

/// Writes a PNG: under a temporary name first, so that an older file survives a failure. Throws
/// flowmatch::DataError where it can't be written.
void write_png(const std::filesystem::path& path, const Picture& picture);

/// Reads any PNG as RGB. Throws flowmatch::DataError for what is none.
Picture read_png(const std::filesystem::path& path);

}  // namespace support
