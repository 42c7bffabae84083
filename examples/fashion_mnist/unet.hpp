#pragma once

#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <string_view>
#include <vector>

namespace fashion_mnist {

/// The shape of a UNet.
struct UNetOptions {
  std::int64_t channels = 1;
  std::int64_t classes = 10;  ///< rows of the label's embedding, one for no label too
  std::vector<std::int64_t> widths = {32, 64, 128, 256};
  std::int64_t blocks = 2;  ///< residual blocks a level on the way down; one more on the way up
  std::int64_t groups = 0;  ///< of GroupNorm (Wu & He 2018); 0 for BatchNorm, as the post has it
  double time_scale = 1;    ///< what t is multiplied by before its sines and cosines are taken
  bool two_times = false;   ///< of an average velocity from t to r: r - t is embedded too

  /// The network behind the blog post: 13,023,072 parameters.
  static UNetOptions paper() { return {}; }
  /// Half as wide, one block a level: 2,174,176 parameters.
  static UNetOptions small() { return {1, 10, {16, 32, 64, 128}, 1}; }
  /// By name, "paper" or "small". Throws flowmatch::OptionError for any other.
  static UNetOptions named(std::string_view name);

  bool operator==(const UNetOptions&) const = default;

  /// Throws flowmatch::OptionError for a shape that cannot be built, or that does not take images
  /// of size x size.
  void validate(std::int64_t size) const;
};

/// Norm -> SiLU -> convolution.
class NormActConvImpl : public torch::nn::Module {
 public:
  /// `groups`: of GroupNorm; 0 for BatchNorm.
  NormActConvImpl(std::int64_t in, std::int64_t out, std::int64_t groups, bool bias = true);
  torch::Tensor forward(const torch::Tensor& x);

 private:
  torch::nn::BatchNorm2d batch_norm_{nullptr};
  torch::nn::GroupNorm group_norm_{nullptr};
  torch::nn::Conv2d conv_{nullptr};
};
TORCH_MODULE(NormActConv);

/// conv1 -> x (1 + scale) + shift, both from the embedding -> conv2 -> plus the input (by a 1x1
/// convolution where the number of channels changes).
class ResidualBlockImpl : public torch::nn::Module {
 public:
  ResidualBlockImpl(std::int64_t embedding, std::int64_t in, std::int64_t out, std::int64_t groups);
  /// x [B, in, H, W], activated embedding [B, embedding] -> [B, out, H, W].
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& embedding);

 private:
  torch::nn::Linear scale_shift_;
  NormActConv conv1_;
  NormActConv conv2_;
  torch::nn::Conv2d shortcut_{nullptr};
};
TORCH_MODULE(ResidualBlock);

/// The class-conditional UNet of the blog post (fastai course22p2, notebook 28): the velocity v(x,
/// t, class); with two times the average velocity u(x, t, r, class) from t to r, which begins as
/// what the network is without the second: the last layer of r - t is zero.
class UNetImpl : public torch::nn::Module {
 public:
  explicit UNetImpl(const UNetOptions& options = UNetOptions::paper());

  /// x [B, C, H, W] with H and W multiples of 2^(levels-1), t [B] in [0, 1], classes int64 [B] ->
  /// [B, C, H, W]. With two times u(x, t, t), which is the velocity.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& t,
                        const torch::Tensor& classes);
  /// The average velocity from t to r, both [B]. Throws OptionError for a network of one time.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& t, const torch::Tensor& r,
                        const torch::Tensor& classes);

  /// Trains the embedding of times, which may have another scale, to be that of another network of
  /// the same widths, for a copy whose times are smoother: the derivative by t of waves of a large
  /// scale is noise.
  void fit_times(UNetImpl& other);

  /// From now on BatchNorm takes its statistics as they are in training too, instead of each
  /// batch's: what is trained is then what samples are drawn with.
  void hold_batch_norm();
  void train(bool on = true) override;

  /// Billions of operations (two a multiplication with its addition) that convolutions and linear
  /// layers take for one image of size x size on the way forward.
  double gflop(std::int64_t size) const;

 private:
  torch::Tensor waves(const torch::Tensor& t);
  torch::Tensor embed_time(const torch::Tensor& t);
  torch::Tensor run(const torch::Tensor& x, const torch::Tensor& embedding);
  torch::Tensor embed(const torch::Tensor& t, const torch::Tensor& r, const torch::Tensor& classes);

  torch::Tensor frequencies_;
  double time_scale_;
  bool holds_batch_norm_ = false;
  torch::nn::Conv2d first_;
  torch::nn::Embedding class_embedding_;
  torch::nn::BatchNorm1d time_norm_{nullptr};  // goes with the other layers' BatchNorm
  torch::nn::Linear time1_;
  torch::nn::Linear time2_;
  torch::nn::Linear span1_{nullptr};  // of r - t, where there are two times
  torch::nn::Linear span2_{nullptr};
  std::vector<std::vector<ResidualBlock>> down_;
  std::vector<torch::nn::Conv2d> shrink_;
  ResidualBlock middle_{nullptr};
  std::vector<std::vector<ResidualBlock>> up_;
  std::vector<torch::nn::Conv2d> grow_;
  NormActConv last_;
};
TORCH_MODULE(UNet);

}  // namespace fashion_mnist
