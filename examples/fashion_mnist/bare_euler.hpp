#pragma once

#include <torch/types.h>

#include "examples/fashion_mnist/unet.hpp"

namespace fashion_mnist {

/// The blog post's sampler as plain code, on equal time steps: what the library's Sampler with
/// ode::Euler computes. Kept to count its lines beside DDIM's (fashion_mnist_compare) and to test
/// the Sampler against.
inline torch::Tensor bare_euler(UNet& net, torch::Tensor x, const torch::Tensor& labels,
                                int steps) {
  // sampling code begins
  for (int i = 0; i < steps; ++i) {
    const torch::Tensor t = torch::full({x.size(0)}, static_cast<double>(i) / steps);
    x = x + net->forward(x, t, labels) / steps;
  }
  return x;
  // sampling code ends
}

}  // namespace fashion_mnist
