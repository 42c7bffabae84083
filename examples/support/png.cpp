#include "examples/support/png.hpp"

#include <png.h>

#include <fstream>
#include <string>
#include <system_error>

#include "flowmatch/core/error.hpp"

namespace support {

namespace {

constexpr std::size_t largest = std::size_t{1} << 28U;  // bytes of pixels that are read

std::vector<std::uint8_t> every_third(const std::vector<std::uint8_t>& rgb) {
  std::vector<std::uint8_t> grey_levels(rgb.size() / 3);
  for (std::size_t i = 0; i < grey_levels.size(); ++i) grey_levels[i] = rgb[3 * i];
  return grey_levels;
}

/// RGBA to RGB, where nothing shines through.
void drop_alpha(std::vector<std::uint8_t>& pixels, const std::filesystem::path& path) {
  const std::size_t n = pixels.size() / 4;
  for (std::size_t i = 0; i < n; ++i) {
    if (pixels[4 * i + 3] < 255) {
      throw flowmatch::DataError(path.string() +
                                 " has transparent pixels; lay it over a background");
    }
    for (std::size_t c = 0; c < 3; ++c) pixels[3 * i + c] = pixels[4 * i + c];
  }
  pixels.resize(3 * n);
}

std::filesystem::path temporary_name(std::filesystem::path path) { return path += ".writing"; }

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& reason) {
  throw flowmatch::DataError("cannot write " + path.string() + ": " + reason +
                             "; check the folder and the free space");
}

}  // namespace

bool is_grey(const Picture& picture) {
  for (std::size_t i = 0; i + 2 < picture.rgb.size(); i += 3) {
    if (picture.rgb[i] != picture.rgb[i + 1] || picture.rgb[i] != picture.rgb[i + 2]) return false;
  }
  return true;
}

void check_picture_path(const std::filesystem::path& path) {
  std::error_code error;
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
  if (std::filesystem::is_directory(path, error)) fail(path, "it is a folder");
  const bool writable = std::ofstream(temporary_name(path)).good();
  if (!writable) fail(path, "no file can be made there");
  std::filesystem::remove(temporary_name(path), error);
}

void write_png(const std::filesystem::path& path, const Picture& picture) {
  if (picture.width < 1 || picture.height < 1 ||
      picture.rgb.size() != static_cast<std::size_t>(3 * picture.width * picture.height)) {
    throw flowmatch::ShapeError("a picture of " + std::to_string(picture.width) + " x " +
                                std::to_string(picture.height) + " pixels with " +
                                std::to_string(picture.rgb.size()) +
                                " bytes cannot be written; give each pixel three");
  }
  const std::filesystem::path temporary = temporary_name(path);
  std::error_code error;
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
  const bool one_channel = is_grey(picture);
  const std::vector<std::uint8_t>& pixels = one_channel ? every_third(picture.rgb) : picture.rgb;
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(picture.width);
  image.height = static_cast<png_uint_32>(picture.height);
  image.format = one_channel ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  const bool written =
      png_image_write_to_file(&image, temporary.c_str(), 0, pixels.data(), 0, nullptr) != 0;
  if (written) std::filesystem::rename(temporary, path, error);
  if (!written || error) {
    const std::string reason = written ? error.message() : image.message;
    std::filesystem::remove(temporary, error);
    fail(path, reason);
  }
}

Picture read_png(const std::filesystem::path& path) {
  Picture picture;
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  if (png_image_begin_read_from_file(&image, path.c_str()) != 0) {
    // Else libpng would take 16 bits a channel for linear light.
    image.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
    const std::size_t channels = (image.format & PNG_FORMAT_FLAG_ALPHA) != 0 ? 4 : 3;
    image.format = channels == 4 ? PNG_FORMAT_RGBA : PNG_FORMAT_RGB;
    const std::size_t size = channels * image.width * image.height;
    if (size > largest) {
      png_image_free(&image);
      throw flowmatch::DataError(path.string() + " claims " + std::to_string(image.width) + " x " +
                                 std::to_string(image.height) +
                                 " pixels, more than are read; check that it is the right file");
    }
    picture.width = image.width;
    picture.height = image.height;
    picture.rgb.resize(size);
    if (png_image_finish_read(&image, nullptr, picture.rgb.data(), 0, nullptr) != 0) {
      if (channels == 4) drop_alpha(picture.rgb, path);
      return picture;
    }
  }
  throw flowmatch::DataError("cannot read " + path.string() + " as PNG: " + image.message +
                             "; check that it is the right file");
}

}  // namespace support
