#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "flowmatch/data/tensor_batches.hpp"
#include "flowmatch/data/transformed.hpp"

namespace support {

/// A folder of PNG images whose sub-folders are the classes.
struct ImageFolder {
  std::vector<std::string> classes;          ///< the sub-folders' names, sorted
  std::vector<std::filesystem::path> files;  ///< class by class, sorted by name
  at::Tensor labels;                         ///< int64 [N], the class of each file
  std::int64_t channels = 0, height = 0, width = 0;
};

/// Lists the images, `*.png` in letters of any case; only the first one is read, for its size.
/// Folders and files whose name begins with a dot are passed over. `channels` is 1 (grey) or 3
/// (RGB). Throws flowmatch::DataError for a folder that is missing or holds no sub-folder, and for
/// a sub-folder without an image, OptionError for other channels.
ImageFolder list_images(const std::filesystem::path& folder, std::int64_t channels = 3);

/// The images at `index` (int64 [B]) as uint8 [B, C, H, W]. Throws flowmatch::DataError naming the
/// file for one that is unreadable, of another size, or coloured among grey ones.
at::Tensor read_images(const ImageFolder& folder, const at::Tensor& index);

/// Batches of images in [-1, 1], float32 [B, C, H, W], with their labels; each is read when it is
/// asked for, which `flowmatch::Prefetch` does ahead. The order comes from seed and epoch, the
/// fingerprint from the files' names.
using ImageBatches = flowmatch::Transformed<flowmatch::TensorBatches<at::Tensor>,
                                            std::function<at::Tensor(const at::Tensor&)>>;
ImageBatches image_batches(ImageFolder folder, std::int64_t batch_size,
                           flowmatch::TensorBatchesOptions options = {});

}  // namespace support
