#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <torch/nn/module.h>

namespace flowmatch { inline namespace v0 {

/// Lays out a module's convolution weights (its parameters of four dimensions) channels-last, which
/// is faster on CPUs and on GPUs' tensor cores; activations follow the weights. Values stay.
inline void to_channels_last(torch::nn::Module& module) {
  const at::NoGradGuard no_grad;
  for (at::Tensor& p : module.parameters()) {
    // `contiguous` would leave a tensor of one channel as it is, which is contiguous in either
    // sense; convolutions would read its strides as the other layout, and every layer after would
    // follow.
    if (p.dim() == 4)
      p.set_data(p.detach().to(p.options(), /*non_blocking=*/false, /*copy=*/false,
                               at::MemoryFormat::ChannelsLast));
  }
}

}}  // namespace flowmatch
