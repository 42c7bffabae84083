#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <iosfwd>

namespace fashion_mnist {

struct Dataset {
  at::Tensor images;  ///< uint8 [N, 28, 28]
  at::Tensor labels;  ///< int64 [N], 0 … 9
  bool is_test = false;

  /// Images first … last - 1 and their labels; no copies.
  Dataset slice(std::int64_t first, std::int64_t last) const {
    return {images.slice(0, first, last), labels.slice(0, first, last), is_test};
  }
};

/// Loads the 60,000 training images, from the first of these that holds them: `folder` (if given;
/// nothing else is then tried), $FLOWMATCH_DATA/fashion-mnist, data/fashion-mnist in the working
/// directory, data/fashion-mnist in the project. Where there are none, the 10,000 test images that
/// come with the project serve, and a line on `log` says so. Files may be gzipped or unpacked.
/// Throws flowmatch::DataError for files that are missing, damaged or do not match.
Dataset load_dataset(const std::filesystem::path& folder, std::ostream& log);

/// The pixels that a network sees.
struct Pixels {
  std::int64_t size = 32;  ///< side of its images: 28, or more with a border of background
  double range = 0.5;      ///< black and white are -range and range

  /// uint8 [N, 28, 28] -> float32 [N, 1, size, size].
  at::Tensor from_images(const at::Tensor& images) const;
  /// The other way: [N, 1, size, size] -> float32 [N, 1, 28, 28] in [-1, 1], clamped.
  at::Tensor to_images(const at::Tensor& x) const;

  bool operator==(const Pixels&) const = default;
};

/// Images in [-1, 1] as the files have them: uint8 in 0 to 255, rounded.
at::Tensor to_bytes(const at::Tensor& images);

}  // namespace fashion_mnist
