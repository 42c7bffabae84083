#include "examples/support/png.hpp"

#include <png.h>

#include <string>
#include <system_error>

#include "flowmatch/core/error.hpp"

namespace support {

namespace {

png_image rgb_image(const Picture& picture) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(picture.width);
  image.height = static_cast<png_uint_32>(picture.height);
  image.format = PNG_FORMAT_RGB;
  return image;
}

}  // namespace

void write_png(const std::filesystem::path& path, const Picture& picture) {
  std::filesystem::path temporary = path;
  temporary += ".writing";
  std::error_code error;
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
  png_image image = rgb_image(picture);
  const bool written =
      png_image_write_to_file(&image, temporary.c_str(), 0, picture.rgb.data(), 0, nullptr) != 0;
  if (written) std::filesystem::rename(temporary, path, error);
  if (!written || error) {
    const std::string reason = written ? error.message() : image.message;
    std::filesystem::remove(temporary, error);
    throw flowmatch::DataError("cannot write " + path.string() + ": " + reason +
                               "; check the folder and the free space");
  }
}

Picture read_png(const std::filesystem::path& path) {
  Picture picture;
  png_image image = rgb_image(picture);
  if (png_image_begin_read_from_file(&image, path.c_str()) != 0) {
    image.format = PNG_FORMAT_RGB;
    picture.width = image.width;
    picture.height = image.height;
    picture.rgb.resize(PNG_IMAGE_SIZE(image));
    if (png_image_finish_read(&image, nullptr, picture.rgb.data(), 0, nullptr) != 0) return picture;
  }
  throw flowmatch::DataError("cannot read " + path.string() + " as PNG: " + image.message);
}

}  // namespace support
