#include "examples/support/image_folder.hpp"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <string>
#include <system_error>
#include <utility>

#include "examples/support/output_path.hpp"
#include "examples/support/png.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/io/crc32.hpp"

namespace fs = std::filesystem;

namespace support {

namespace {

/// What a folder holds, sorted by name, without what is hidden: notebooks, file managers and macOS
/// leave .ipynb_checkpoints, .thumbnails and ._0.png beside the images.
std::vector<fs::path> sorted(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().filename().string().front() != '.') paths.push_back(entry.path());
  }
  if (error) {
    throw flowmatch::DataError("cannot read the folder " + folder.string() + ": " +
                               error.message() + "; check the path and its permissions");
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

/// A link that leads in a circle is none.
bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

/// Whether the name ends in .png, in letters of any case.
bool is_png(const fs::path& file) { return extension_of(file) == ".png" && !is_folder(file); }

}  // namespace

ImageFolder list_images(const fs::path& folder, std::int64_t channels) {
  if (channels != 1 && channels != 3) {
    throw flowmatch::OptionError("images of " + std::to_string(channels) +
                                 " channels; choose 1 (grey) or 3 (RGB)");
  }
  ImageFolder found;
  std::vector<std::int64_t> labels;
  for (const fs::path& sub : sorted(folder)) {
    if (!is_folder(sub)) continue;
    const std::size_t before = found.files.size();
    for (const fs::path& file : sorted(sub)) {
      if (is_png(file)) found.files.push_back(file);
    }
    if (found.files.size() == before) {
      throw flowmatch::DataError(sub.string() +
                                 " holds no PNG image; convert what it holds, or, where it is no "
                                 "class, move it away");
    }
    labels.resize(found.files.size(), static_cast<std::int64_t>(found.classes.size()));
    found.classes.push_back(sub.filename().string());
  }
  if (found.files.empty()) {
    throw flowmatch::DataError(
        folder.string() + " holds no images; give it a sub-folder of PNG files for each class");
  }
  found.labels = at::tensor(labels, at::kLong);
  const Picture first = read_png(found.files.front());
  found.channels = channels;
  found.height = first.height;
  found.width = first.width;
  return found;
}

at::Tensor read_images(const ImageFolder& folder, const at::Tensor& index) {
  const at::Tensor images =
      at::empty({index.size(0), folder.channels, folder.height, folder.width}, at::kByte);
  for (std::int64_t i = 0; i < index.size(0); ++i) {
    const fs::path& file = folder.files.at(static_cast<std::size_t>(index[i].item<std::int64_t>()));
    Picture picture = read_png(file);
    if (picture.width != folder.width || picture.height != folder.height) {
      throw flowmatch::DataError(file.string() + " has " + std::to_string(picture.width) + " x " +
                                 std::to_string(picture.height) + " pixels, " +
                                 folder.files.front().filename().string() + " has " +
                                 std::to_string(folder.width) + " x " +
                                 std::to_string(folder.height) + "; bring all images to one size");
    }
    const at::Tensor pixels =
        at::from_blob(picture.rgb.data(), {folder.height, folder.width, 3}, at::kByte)
            .permute({2, 0, 1});
    if (folder.channels == 1 && !(pixels[0].equal(pixels[1]) && pixels[0].equal(pixels[2]))) {
      throw flowmatch::DataError(file.string() +
                                 " has colours among grey images; ask for 3 channels");
    }
    images[i].copy_(pixels.slice(0, 0, folder.channels));
  }
  return images;
}

ImageBatches image_batches(ImageFolder folder, std::int64_t batch_size,
                           flowmatch::TensorBatchesOptions options) {
  std::uint32_t names = 0;
  for (const fs::path& file : folder.files) {
    const fs::path name = file.parent_path().filename() / file.filename();
    names = flowmatch::crc32(name.string() + "\n", names);
  }
  flowmatch::TensorBatches<at::Tensor> numbers(at::arange(folder.labels.size(0), at::kLong),
                                               folder.labels, batch_size, options);
  std::string name = "the images of these numbers, names crc " + std::to_string(names);
  return ImageBatches(
      std::move(numbers),
      [images = std::move(folder)](const at::Tensor& index) {
        return read_images(images, index).to(at::kFloat) / 127.5 - 1;
      },
      std::move(name));
}

}  // namespace support
