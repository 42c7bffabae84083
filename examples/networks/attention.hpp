#pragma once

#include <ATen/Functions.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "flowmatch/core/error.hpp"

namespace nets {

/// Attention of several heads (Vaswani et al. 2017), each of width d:
///
///     softmax(q k^T / sqrt(d)) v
///
/// By plain products: LibTorch's fused scaled_dot_product_attention has no forward derivative,
/// which MeanFlowLoss asks for. The price is a matrix [B, heads, L, L] in memory.
class AttentionImpl : public torch::nn::Module {
 public:
  /// Throws OptionError unless the heads divide the width.
  AttentionImpl(std::int64_t width, std::int64_t heads) : heads_(heads) {
    if (heads < 1 || width < 1 || width % heads != 0) {
      throw flowmatch::OptionError("attention of width " + std::to_string(width) + " with " +
                                   std::to_string(heads) +
                                   " heads; choose heads that divide the width");
    }
    qkv_ = register_module("qkv", torch::nn::Linear(width, 3 * width));
    out_ = register_module("out", torch::nn::Linear(width, width));
  }

  /// x [B, L, width] -> the same. None looks at elements where `mask`, bool [B, L], is false; a
  /// sample with no elements at all looks at its padding, so that it gets numbers and not NaN.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& mask = {}) {
    const std::int64_t b = x.size(0), l = x.size(1), d = x.size(2) / heads_;
    const std::vector<at::Tensor> qkv =
        qkv_->forward(x).reshape({b, l, 3, heads_, d}).permute({2, 0, 3, 1, 4}).unbind(0);
    at::Tensor scores =
        at::matmul(qkv[0], qkv[1].transpose(-2, -1)) / std::sqrt(static_cast<double>(d));
    if (mask.defined()) {
      const at::Tensor hidden = mask.logical_not() & mask.any(1, true);
      scores =
          scores.masked_fill(hidden.view({b, 1, 1, l}), -std::numeric_limits<double>::infinity());
    }
    const at::Tensor seen = at::matmul(scores.softmax(-1), qkv[2]);
    return out_->forward(seen.transpose(1, 2).reshape({b, l, heads_ * d}));
  }

 private:
  std::int64_t heads_;
  torch::nn::Linear qkv_{nullptr}, out_{nullptr};
};
TORCH_MODULE(Attention);

}  // namespace nets
