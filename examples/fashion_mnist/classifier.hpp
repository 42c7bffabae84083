#pragma once

#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <filesystem>

namespace fashion_mnist {

/// The judge: a small convolutional classifier of Fashion-MNIST (278,890 parameters), whose
/// penultimate layer gives the features that samples are compared by.
class ClassifierImpl : public torch::nn::Module {
 public:
  static constexpr std::int64_t features_per_image = 128;

  ClassifierImpl();

  /// x [N, 1, 28, 28] in [-0.5, 0.5] -> [N, 128], not below 0: the last convolution's mean over the
  /// picture.
  torch::Tensor features(const torch::Tensor& x);
  /// Features [N, 128] -> scores of the ten classes [N, 10].
  torch::Tensor scores(const torch::Tensor& features);
  /// x [N, 1, 28, 28] -> scores [N, 10].
  torch::Tensor forward(const torch::Tensor& x) { return scores(features(x)); }

 private:
  torch::nn::Sequential convolutions_;
  torch::nn::Linear last_;
};
TORCH_MODULE(Classifier);

/// What the judge says of each image.
struct Judgement {
  torch::Tensor features;  ///< float32 [N, 128]
  torch::Tensor classes;   ///< int64 [N]: the class with the highest score
};

/// uint8 [N, 28, 28] or [N, 1, 28, 28] -> what the judge sees: float32 [N, 1, 28, 28] in
/// [-0.5, 0.5]. Throws flowmatch::ShapeError for anything else.
torch::Tensor judged_pixels(const torch::Tensor& images);

/// Judges uint8 images, in batches, in evaluation mode; the result lies on the CPU. Throws
/// flowmatch::ShapeError as `judged_pixels` does.
Judgement judge(Classifier& classifier, const torch::Tensor& images);

/// The share of the images that are judged as their label, int64 [N].
double agreement(const torch::Tensor& classes, const torch::Tensor& labels);

/// Loads the folder that `fashion_mnist_classifier` writes. Throws flowmatch::CheckpointError where
/// it is missing, damaged or of another network.
Classifier load_classifier(const std::filesystem::path& folder, c10::Device device);

}  // namespace fashion_mnist
