#include "examples/fashion_mnist/classifier.hpp"

#include <torch/torch.h>

#include <vector>

#include "flowmatch/checkpoint/checkpoint.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/model/channels_last.hpp"
#include "flowmatch/model/eval_scope.hpp"
#include "flowmatch/model/state_dict.hpp"

namespace fashion_mnist {

namespace fm = flowmatch;
namespace nn = torch::nn;

ClassifierImpl::ClassifierImpl()
    : convolutions_(register_module("convolutions", nn::Sequential())),
      last_(register_module("last", nn::Linear(features_per_image, 10))) {
  const auto add = [&](std::int64_t in, std::int64_t out) {
    convolutions_->push_back(nn::Conv2d(nn::Conv2dOptions(in, out, 3).padding(1).bias(false)));
    convolutions_->push_back(nn::BatchNorm2d(out));
    convolutions_->push_back(nn::ReLU());
  };
  add(1, 32);
  convolutions_->push_back(nn::MaxPool2d(2));
  add(32, 64);
  add(64, 64);
  convolutions_->push_back(nn::MaxPool2d(2));
  add(64, features_per_image);
  add(features_per_image, features_per_image);
}

torch::Tensor ClassifierImpl::features(const torch::Tensor& x) {
  // In the layout of the weights: see UNet.
  const at::Tensor pixels = x.to(x.options(), false, false, at::MemoryFormat::ChannelsLast);
  return convolutions_->forward(pixels).mean({2, 3});
}

torch::Tensor ClassifierImpl::scores(const torch::Tensor& features) {
  return last_->forward(features);
}

torch::Tensor judged_pixels(const torch::Tensor& images) {
  if (images.scalar_type() != at::kByte || images.dim() < 3 || images.dim() > 4 ||
      images.size(-1) != 28 || images.size(-2) != 28 ||
      (images.dim() == 4 && images.size(1) != 1)) {
    throw fm::ShapeError("the judge takes uint8 images [N, 28, 28] or [N, 1, 28, 28], not " +
                         std::string(toString(images.scalar_type())) + " " +
                         fm::shape_text(images));
  }
  return images.view({-1, 1, 28, 28}).to(at::kFloat) / 255 - 0.5;
}

Judgement judge(Classifier& classifier, const torch::Tensor& images) {
  const at::NoGradGuard no_grad;
  const fm::EvalScope eval(*classifier);
  const c10::Device device = classifier->parameters().front().device();
  std::vector<at::Tensor> features;
  std::vector<at::Tensor> classes;
  for (const at::Tensor& batch : images.split(500)) {
    const at::Tensor x = judged_pixels(batch.to(device));
    features.push_back(classifier->features(x).cpu());
    classes.push_back(classifier->scores(features.back().to(device)).argmax(1).cpu());
  }
  return {at::cat(features), at::cat(classes)};
}

double agreement(const torch::Tensor& classes, const torch::Tensor& labels) {
  return classes.eq(labels).to(at::kDouble).mean().item<double>();
}

Classifier load_classifier(const std::filesystem::path& folder, c10::Device device) {
  fm::open_checkpoint(folder);  // whole?
  Classifier classifier;
  fm::load_state_dict(*classifier, fm::read_state_dict(folder / "model.pt"));
  fm::to_channels_last(*classifier);
  classifier->to(device);
  classifier->eval();
  return classifier;
}

}  // namespace fashion_mnist
