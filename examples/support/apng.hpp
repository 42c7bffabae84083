#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "examples/support/png.hpp"

namespace support {

/// A picture of an animation, and how long it stands.
struct Frame {
  Picture picture;
  int milliseconds = 80;
};

/// The bytes of an animated PNG (PNG, third edition, sections 4.9 and 11.3.6) that repeats for
/// ever: 8 bits a channel, grey where no pixel has a colour. A program that knows no animations
/// shows the last frame. Throws flowmatch::ShapeError for no frames, frames without pixels or of
/// unlike sizes; OptionError for a time outside 1 to 65535 ms.
std::string apng(const std::vector<Frame>& frames);

/// Writes them to a file, whose folder is made. Throws flowmatch::DataError where it can't be
/// written.
void write_apng(const std::filesystem::path& path, const std::vector<Frame>& frames);

}  // namespace support
