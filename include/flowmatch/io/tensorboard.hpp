#pragma once

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "flowmatch/core/error.hpp"
#include "flowmatch/io/crc32.hpp"
#include "flowmatch/io/path_lock.hpp"

/// Event files that TensorBoard reads: TensorFlow's record format around a few protocol buffers
/// (tensorboard/compat/proto/event.proto and summary.proto).

namespace flowmatch { inline namespace v0 {

namespace detail::tensorboard {

inline std::string little_endian(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 0xFFU);
  return text;
}

inline std::string varint(std::uint64_t value) {
  std::string text;
  for (; value >= 0x80U; value >>= 7U) text += static_cast<char>((value & 0x7FU) | 0x80U);
  return text + static_cast<char>(value);
}

// A field of a protocol buffer: its number and wire type, then its value. What is 0 is left out, as
// proto3 has it, except in `number32`, which serves a member of a oneof.
inline std::string key(unsigned field, unsigned wire_type) {
  return varint(field << 3U | wire_type);
}
inline std::string whole(unsigned field, std::int64_t value) {
  return value == 0 ? "" : key(field, 0) + varint(static_cast<std::uint64_t>(value));
}
inline std::string number64(unsigned field, double value) {
  return value == 0 ? "" : key(field, 1) + little_endian(std::bit_cast<std::uint64_t>(value), 8);
}
inline std::string number32(unsigned field, float value) {
  return key(field, 5) + little_endian(std::bit_cast<std::uint32_t>(value), 4);
}
inline std::string bytes(unsigned field, std::string_view value) {
  return key(field, 2) + varint(value.size()) + std::string(value);
}

/// An Event: wall_time = 1, step = 2, and `what`.
inline std::string event(double wall_time, std::int64_t step, const std::string& what) {
  return number64(1, wall_time) + whole(2, step) + what;
}
/// Event.file_version = 3: what every file begins with.
inline std::string version() { return bytes(3, "brain.Event:2"); }
/// Event.session_log = 7 with SessionLog.status = 1 START: events of this step and later ones that
/// stand in earlier files no longer hold.
inline std::string start() { return bytes(7, whole(1, 1)); }
/// Event.summary = 5 with one Summary.value = 1 of tag = 1 and simple_value = 2.
inline std::string scalar(std::string_view tag, double value) {
  return bytes(5, bytes(1, bytes(1, tag) + number32(2, static_cast<float>(value))));
}
/// The same with image = 4: height = 1, width = 2, colorspace = 3, encoded_image_string = 4.
inline std::string image(std::string_view tag, std::string_view png, std::int64_t width,
                         std::int64_t height, int channels) {
  const std::string value = whole(1, height) + whole(2, width) + whole(3, channels) + bytes(4, png);
  return bytes(5, bytes(1, bytes(1, tag) + bytes(4, value)));
}

/// A record: the length and its masked CRC-32C, the data and theirs.
inline std::string record(std::string_view data) {
  const auto masked = [](std::string_view text) {
    return little_endian(std::rotr(crc32c(text), 15) + 0xA282EAD8U, 4);
  };
  const std::string length = little_endian(data.size(), 8);
  return length + masked(length) + std::string(data) + masked(data);
}

}  // namespace detail::tensorboard

/// Writes scalars and images for TensorBoard (`tensorboard --logdir FOLDER`) into a new file
/// events.out.tfevents.… of the folder, which is made where missing; NaN and infinity are kept. A
/// run that goes on at step `steps_done` opens a second file, whose beginning tells TensorBoard to
/// forget what earlier files hold of later steps. The file is made for the first point or picture:
/// a run that is refused before its first step makes TensorBoard forget nothing.
///
/// Throws DataError where the file can't be written.
class TensorBoardWriter {
 public:
  /// Of a file in the folder.
  explicit TensorBoardWriter(const std::filesystem::path& folder, std::int64_t steps_done = 0) {
    // TensorBoard reads a folder's files in the order of their names.
    const std::int64_t now = microseconds();
    char name[80];
    std::snprintf(name, sizeof name, "events.out.tfevents.%010lld.%06lld.%ld",
                  static_cast<long long>(now / 1000000), static_cast<long long>(now % 1000000),
                  static_cast<long>(::getpid()));
    path_ = absolute_path(folder) / name;
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (!std::filesystem::is_directory(folder, error)) fail();
    if (steps_done > 0) restart(steps_done + 1);
  }

  /// Tells TensorBoard, before the next point or picture, to forget what it has of this step and
  /// later ones: the run repeats them.
  void restart(std::int64_t step) { restart_ = std::min(step, restart_.value_or(step)); }

  /// A point (step, value) of the curve `tag`; a tag's part before the first '/' is its group.
  void scalar(std::string_view tag, double value, std::int64_t step) {
    add(step, detail::tensorboard::scalar(tag, value));
  }

  /// A picture named `tag`: the bytes of a `png` file, its width and height in pixels, and its
  /// channels: 1 grey, 3 RGB, 4 RGBA.
  void image(std::string_view tag, std::string_view png, std::int64_t width, std::int64_t height,
             int channels, std::int64_t step) {
    add(step, detail::tensorboard::image(tag, png, width, height, channels));
  }

  /// Hands everything to the operating system, for whoever reads along.
  void flush() {
    if (file_.is_open() && !file_.flush()) fail();
  }

  /// The file that it writes.
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  static std::int64_t microseconds() {
    return std::chrono::duration_cast<std::chrono::microseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  }
  [[noreturn]] void fail() const {
    throw DataError("cannot write " + path_.string() +
                    "; check the folder's permissions and the free space");
  }
  void add(std::int64_t step, const std::string& what) {
    if (!file_.is_open()) {
      file_.open(path_, std::ios::binary);
      if (!file_.is_open()) fail();
      write(0, detail::tensorboard::version());
    }
    if (restart_) write(*restart_, detail::tensorboard::start());
    restart_.reset();
    write(step, what);
  }
  void write(std::int64_t step, const std::string& what) {
    const double wall_time = static_cast<double>(microseconds()) * 1e-6;
    file_ << detail::tensorboard::record(detail::tensorboard::event(wall_time, step, what));
  }

  std::filesystem::path path_;
  std::ofstream file_;
  std::optional<std::int64_t> restart_{};
};

}}  // namespace flowmatch
