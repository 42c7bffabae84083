#include "examples/fashion_mnist/evaluation.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "examples/fashion_mnist/dataset.hpp"
#include "examples/support/picture.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/io/npy.hpp"
#include "flowmatch/metrics/frechet.hpp"

namespace fashion_mnist {

at::Tensor load_samples(const std::filesystem::path& file) {
  at::Tensor images = fm::load_npy(file);
  const auto bad = [&](const std::string& what) {
    return fm::DataError(file.string() + " holds " + what +
                         "; give samples of Fashion-MNIST, uint8 or in [-1, 1], as "
                         "fashion_mnist_sample writes them");
  };
  if (images.dim() == 4 && images.size(1) == 1) images = images.squeeze(1);
  if (images.dim() != 3 || images.size(1) != 28 || images.size(2) != 28)
    throw bad("an array of shape " + fm::shape_text(images));
  constexpr std::int64_t least = 10;
  if (images.size(0) < least)
    throw bad(std::to_string(images.size(0)) + " images, less than " + std::to_string(least));
  if (images.scalar_type() == at::kByte) return images;
  if (images.scalar_type() == at::kLong) throw bad("whole numbers of 64 bits");
  if (!images.abs().le(1.0).all().item<bool>())  // NaN is not either
    throw bad("a value outside of [-1, 1]");
  return to_bytes(images);
}

at::Tensor load_labels(const std::filesystem::path& file, std::int64_t n) {
  const at::Tensor labels = fm::load_npy(file);
  if (labels.dim() != 1 || labels.size(0) != n || labels.is_floating_point() ||
      labels.lt(0).any().item<bool>() || labels.gt(9).any().item<bool>()) {
    throw fm::DataError(file.string() + " holds no labels of " + std::to_string(n) +
                        " samples; give uint8 or int64 [" + std::to_string(n) + "] from 0 to 9");
  }
  return labels.to(at::kLong);
}

at::Tensor classes_in_turn_among(const at::Tensor& labels, std::int64_t n) {
  std::vector<at::Tensor> classes;
  for (std::int64_t c = 0; c < 10; ++c) {
    classes.push_back(labels.eq(c).nonzero().squeeze(1));
    if (classes.back().size(0) == 0) {
      throw fm::DataError("there is no image of class " + std::to_string(c) + " among " +
                          std::to_string(labels.size(0)) + "; choose another --held-out");
    }
    // Sample i is number i / 10 of its class: this is the first that there is not.
    n = std::min(n, 10 * classes.back().size(0) + c);
  }
  std::vector<at::Tensor> positions;
  for (std::int64_t i = 0; i < n; ++i) {
    positions.push_back(classes[static_cast<std::size_t>(i % 10)].slice(0, i / 10, i / 10 + 1));
  }
  return at::cat(positions);
}

Figures figures_of(const Judgement& set, const at::Tensor& labels, const Judgement& test,
                   const at::Tensor& test_labels) {
  const std::int64_t n = set.features.size(0);
  const at::Tensor as_many = test.features.index_select(0, classes_in_turn_among(test_labels, n));
  Figures figures;
  figures.images = n;
  figures.fid = fm::frechet_distance(set.features, test.features);
  figures.kid = fm::kernel_distance(set.features, test.features);
  figures.neighbours = fm::precision_recall(as_many, set.features);
  figures.balls = fm::density_coverage(as_many, set.features);
  figures.agreement = agreement(set.classes, labels);
  return figures;
}

fm::Nearest nearest_images(const at::Tensor& images, const at::Tensor& others) {
  fm::Nearest found = fm::nearest(images.flatten(1), others.flatten(1));
  found.distance /= 255;
  return found;
}

support::Picture picture_of_pairs(const at::Tensor& samples, const at::Tensor& others,
                                  const fm::Nearest& nearest) {
  constexpr std::int64_t shown = 40, columns = 10;
  const auto pairs = [&](const at::Tensor& which) {
    std::vector<at::Tensor> rows;
    for (const at::Tensor& row : which.split(columns)) {
      rows.push_back(samples.index_select(0, row));
      rows.push_back(others.index_select(0, nearest.index.index_select(0, row)));
    }
    return support::image_grid(at::cat(rows).unsqueeze(1).to(at::kFloat) / 127.5 - 1, columns);
  };
  // Whole rows of ten only.
  const std::int64_t n = std::min(shown, samples.size(0) / columns * columns);
  const at::Tensor closest = nearest.distance.argsort();
  return support::sheet({{{"samples, and below each the nearest image", pairs(at::arange(n))},
                          {"the pairs that are nearest", pairs(closest.slice(0, 0, n))}}});
}

}  // namespace fashion_mnist
