#pragma once

#include <ATen/Functions.h>
#include <torch/nn/init.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "examples/networks/attention.hpp"

namespace nets {

/// Sines and cosines of numbers [N], at `width` / 2 frequencies from 1 to 1/10,000 -> [N, width]
/// (Vaswani et al. 2017): of times, and of positions.
inline at::Tensor waves(const at::Tensor& numbers, std::int64_t width) {
  const std::int64_t half = width / 2;
  const at::Tensor frequencies =
      (at::arange(half, numbers.options()) * (-std::log(10000.0) / static_cast<double>(half)))
          .exp();
  const at::Tensor angles = numbers.unsqueeze(1) * frequencies;
  return at::cat({angles.sin(), angles.cos()}, 1);
}

/// Each element of x [B, L, width] with mean 0 and variance 1, then times 1 + scale, plus shift
/// (both [B, 1, width]).
inline at::Tensor modulated(const at::Tensor& x, const at::Tensor& shift, const at::Tensor& scale) {
  return at::layer_norm(x, {x.size(2)}, {}, {}, 1e-6) * (1 + scale) + shift;
}

/// n parts [B, 1, width] of a linear layer that begins at zero.
class ModulationImpl : public torch::nn::Module {
 public:
  ModulationImpl(std::int64_t width, std::int64_t n) : n_(n) {
    layer_ = register_module("layer", torch::nn::Linear(width, n * width));
    reset();
  }
  void reset() {
    torch::nn::init::zeros_(layer_->weight);
    torch::nn::init::zeros_(layer_->bias);
  }
  /// c [B, width], activated.
  std::vector<at::Tensor> forward(const at::Tensor& c) {
    return layer_->forward(c).unsqueeze(1).chunk(n_, 2);
  }

 private:
  std::int64_t n_;
  torch::nn::Linear layer_{nullptr};
};
TORCH_MODULE(Modulation);

/// A block of a diffusion transformer, with adaLN-Zero (Peebles & Xie 2023, section 3.2): attention
/// and an MLP, each beside a way past it, through norms whose shift, scale and gate the embedding
/// of time and class gives. The gates begin at zero, so that a new block does nothing.
class DiTBlockImpl : public torch::nn::Module {
 public:
  /// `ratio`: how many times as wide the MLP is inside.
  DiTBlockImpl(std::int64_t width, std::int64_t heads, std::int64_t ratio)
      : attention_(register_module("attention", Attention(width, heads))),
        wide_(register_module("wide", torch::nn::Linear(width, ratio * width))),
        narrow_(register_module("narrow", torch::nn::Linear(ratio * width, width))),
        modulation_(register_module("modulation", Modulation(width, 6))) {}

  /// x [B, L, width], activated embedding c [B, width], mask bool [B, L] or undefined -> as x.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& c, const at::Tensor& mask = {}) {
    const std::vector<at::Tensor> m = modulation_->forward(c);
    const at::Tensor seen = x + m[2] * attention_->forward(modulated(x, m[0], m[1]), mask);
    const at::Tensor inside = at::gelu(wide_->forward(modulated(seen, m[3], m[4])), "tanh");
    return seen + m[5] * narrow_->forward(inside);
  }

 private:
  Attention attention_;
  torch::nn::Linear wide_, narrow_;
  Modulation modulation_;
};
TORCH_MODULE(DiTBlock);

}  // namespace nets
