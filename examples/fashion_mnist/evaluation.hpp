#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "examples/fashion_mnist/classifier.hpp"
#include "examples/support/png.hpp"
#include "flowmatch/metrics/kernel.hpp"
#include "flowmatch/metrics/neighbours.hpp"

namespace fashion_mnist {

namespace fm = flowmatch;

/// Reads samples from a .npy file: uint8 [N, 28, 28] or [N, 1, 28, 28], or float32 or float64 in
/// [-1, 1] -> uint8 [N, 28, 28]. Throws flowmatch::DataError for anything else, and for fewer than
/// ten.
at::Tensor load_samples(const std::filesystem::path& file);

/// Reads labels 0 to 9 of n samples, uint8 or int64 [n] -> int64 [n]. Throws flowmatch::DataError
/// for anything else.
at::Tensor load_labels(const std::filesystem::path& file, std::int64_t n);

/// Positions of n images of which the i-th is of class i mod 10, the first of each class; fewer,
/// where one of the ten classes runs out. int64 [n]. Throws flowmatch::DataError for a class
/// without an image.
at::Tensor classes_in_turn_among(const at::Tensor& labels, std::int64_t n);

/// How near a set of images comes to the test images, by the judge's features.
struct Figures {
  std::int64_t images = 0;
  double fid = 0;  ///< Fréchet distance to all test images
  fm::KernelDistance kid;
  fm::PrecisionRecall neighbours;  ///< against as many test images, k = 3
  fm::DensityCoverage balls;       ///< the same, k = 5
  double agreement = 0;            ///< share judged as the class that was asked for
};

/// A figure by name, in JSON and as people read it.
struct FigureLine {
  const char* key;
  const char* name;
  double scale;  ///< of what people read
  int digits;
  double (*value)(const Figures&);
};
inline constexpr FigureLine figure_lines[] = {
    {"fid", "FID", 1, 3, [](const Figures& f) { return f.fid; }},
    {"kid", "KID x 1000", 1000, 3, [](const Figures& f) { return f.kid.value; }},
    {"kid_standard_error", "its standard error x 1000", 1000, 3,
     [](const Figures& f) { return f.kid.standard_error; }},
    {"precision", "precision", 1, 3, [](const Figures& f) { return f.neighbours.precision; }},
    {"recall", "recall", 1, 3, [](const Figures& f) { return f.neighbours.recall; }},
    {"density", "density", 1, 3, [](const Figures& f) { return f.balls.density; }},
    {"coverage", "coverage", 1, 3, [](const Figures& f) { return f.balls.coverage; }},
    {"judged_as_asked", "judged as the class asked, %", 100, 1,
     [](const Figures& f) { return f.agreement; }},
};

/// What fashion_mnist_evaluate's JSON files say that they are of.
inline constexpr const char* evaluation_program = "fashion_mnist_evaluate";

/// Compares a judged set with the judged test images. `labels`: what the set's images should show;
/// `test_labels`: the test images'.
Figures figures_of(const Judgement& set, const at::Tensor& labels, const Judgement& test,
                   const at::Tensor& test_labels);

/// For each of the images uint8 [N, 28, 28] the nearest of `others` [M, 28, 28]: distances are
/// Euclidean, of pixels in [0, 1].
fm::Nearest nearest_images(const at::Tensor& images, const at::Tensor& others);

/// Pairs side by side in rows of ten: each sample above the image that is nearest to it, for the
/// first 40 samples and for the 40 with the smallest distance.
support::Picture picture_of_pairs(const at::Tensor& samples, const at::Tensor& others,
                                  const fm::Nearest& nearest);

}  // namespace fashion_mnist
