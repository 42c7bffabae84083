#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <iosfwd>

namespace fashion_mnist {

struct Dataset {
  at::Tensor images;  ///< uint8 [N, 28, 28]
  at::Tensor labels;  ///< int64 [N], 0 … 9
  bool is_test = false;
};

/// Loads the 60,000 training images, from the first of these that holds them: `folder` (if given;
/// nothing else is then tried), $FLOWMATCH_DATA/fashion-mnist, data/fashion-mnist in the working
/// directory, data/fashion-mnist in the project. Where there are none, the 10,000 test images that
/// come with the project serve, and a line on `log` says so. Files may be gzipped or unpacked.
/// Throws flowmatch::DataError for files that are missing, damaged or do not match.
Dataset load_dataset(const std::filesystem::path& folder, std::ostream& log);

/// What the network sees: float32 [N, 1, 32, 32] in [-0.5, 0.5], padded with background.
at::Tensor to_pixels(const at::Tensor& images);

/// The other way: [N, 1, 32, 32] -> float32 [N, 1, 28, 28] in [-1, 1], clamped.
at::Tensor from_pixels(const at::Tensor& x);

/// Images in [-1, 1] as the files have them: uint8 in 0 to 255, rounded.
at::Tensor to_bytes(const at::Tensor& images);

}  // namespace fashion_mnist
