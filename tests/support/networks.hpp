#pragma once

#include "tests/support/test.hpp"

/// Networks on test_device().
namespace networks {

/// A small network v(x, t) for points [B, d].
struct MlpImpl : torch::nn::Module {
  explicit MlpImpl(std::int64_t d = 2, std::int64_t width = 16, bool dropout = false) {
    layers = register_module(
        "layers", torch::nn::Sequential(torch::nn::Linear(d + 1, width), torch::nn::SiLU()));
    if (dropout) layers->push_back(torch::nn::Dropout(0.2));
    layers->push_back(torch::nn::Linear(width, width));
    layers->push_back(torch::nn::SiLU());
    layers->push_back(torch::nn::Linear(width, d));
    to(test_device());
  }
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& t) {
    return layers->forward(torch::cat({x, t.unsqueeze(1).to(x.scalar_type())}, 1));
  }
  torch::nn::Sequential layers{nullptr};
};
TORCH_MODULE(Mlp);

/// v(x, t, label) for points and images: adds an embedding of the label, normalises over the batch.
struct ConditionalImpl : torch::nn::Module {
  explicit ConditionalImpl(std::int64_t channels = 1) {
    conv = register_module(
        "conv", torch::nn::Conv2d(torch::nn::Conv2dOptions(channels, channels, 3).padding(1)));
    norm = register_module("norm", torch::nn::BatchNorm2d(channels));
    embedding = register_module("embedding", torch::nn::Embedding(10, channels));
    to(test_device());
  }
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& t,
                        const torch::Tensor& label) {
    return norm->forward(conv->forward(x)) + embedding->forward(label).unsqueeze(-1).unsqueeze(-1) +
           t.view({-1, 1, 1, 1});
  }
  torch::nn::Conv2d conv{nullptr};
  torch::nn::BatchNorm2d norm{nullptr};
  torch::nn::Embedding embedding{nullptr};
};
TORCH_MODULE(Conditional);

}  // namespace networks
