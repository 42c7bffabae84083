#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include <torch/nn/module.h>

#include <unordered_set>
#include <vector>

#include "flowmatch/model/value_checks.hpp"

namespace flowmatch { inline namespace v0 {

/// Lays out a module's convolution weights (its parameters of four dimensions) channels-last, which
/// is faster on CPUs and on GPUs' tensor cores; activations follow the weights. Values stay, and so
/// do weights that share their memory with other tensors of the module, as views of one another do.
inline void to_channels_last(torch::nn::Module& module) {
  const c10::InferenceMode off(false);  // whose tensors could not be trained
  const at::NoGradGuard no_grad;
  detail::MemorySharing sharing;
  std::vector<at::Tensor> weights;
  std::unordered_set<const c10::TensorImpl*> seen;  // a layer under two names shares with itself
  const auto is_new = [&](const at::Tensor& t) {
    return seen.insert(t.unsafeGetTensorImpl()).second;
  };
  for (const at::Tensor& p : module.parameters()) {
    if (!is_new(p)) continue;
    sharing.add("", p);
    weights.push_back(p);
  }
  for (const at::Tensor& b : module.buffers()) {
    if (is_new(b)) sharing.add("", b);
  }
  for (at::Tensor& p : weights) {
    // `contiguous` would leave a tensor of one channel as it is, which is contiguous in either
    // sense; convolutions would read its strides as the other layout, and every layer after would
    // follow.
    if (p.dim() == 4 && sharing.is_alone(p))
      p.set_data(p.detach().to(p.options(), /*non_blocking=*/false, /*copy=*/false,
                               at::MemoryFormat::ChannelsLast));
  }
}

}}  // namespace flowmatch
