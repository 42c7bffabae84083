#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <vector>

namespace flowmatch::inline v0 {

/// Scales all gradients by min(1, max_norm / (norm + 1e-6)), norm being the 2-norm of all of them
/// together (Pascanu et al. 2013, algorithm 1), and returns that norm as a scalar tensor. Unlike
/// torch::nn::utils::clip_grad_norm_ it never waits for the device. Parameters without a gradient
/// are passed over; returns an undefined tensor if none has one.
inline at::Tensor clip_grad_norm(const std::vector<at::Tensor>& parameters, double max_norm) {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> grads;
  for (const at::Tensor& p : parameters) {
    if (p.grad().defined()) grads.push_back(p.grad());
  }
  if (grads.empty()) return {};
  const at::Tensor norm = at::linalg_vector_norm(at::stack(at::_foreach_norm(grads, 2)), 2);
  at::_foreach_mul_(grads, (max_norm / (norm + 1e-6)).clamp_max(1.0));
  return norm;
}

}  // namespace flowmatch::inline v0
