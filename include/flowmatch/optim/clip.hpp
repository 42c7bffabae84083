#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <vector>

namespace flowmatch { inline namespace v0 {

namespace detail {

inline std::vector<at::Tensor> gradients(const std::vector<at::Tensor>& parameters) {
  std::vector<at::Tensor> grads;
  for (const at::Tensor& p : parameters) {
    if (p.grad().defined()) grads.push_back(p.grad());
  }
  return grads;
}

}  // namespace detail

/// The 2-norm of all gradients together, a scalar tensor; NaN or infinite where one of them is. It
/// does not wait for the device. Parameters without a gradient are passed over; returns an
/// undefined tensor if none has one.
inline at::Tensor grad_norm(const std::vector<at::Tensor>& parameters) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> grads = detail::gradients(parameters);
  for (at::Tensor& grad : grads) {
    if (grad.is_sparse()) grad = grad.coalesce().values();
  }
  if (grads.empty()) return {};
  return at::linalg_vector_norm(at::stack(at::_foreach_norm(grads, 2)), 2);
}

/// Scales all gradients by min(1, max_norm / (norm + 1e-6)), norm being their `grad_norm` (Pascanu
/// et al. 2013, algorithm 1), and returns that norm. Unlike torch::nn::utils::clip_grad_norm_ it
/// never waits for the device.
inline at::Tensor clip_grad_norm(const std::vector<at::Tensor>& parameters, double max_norm) {
  const at::NoGradGuard no_grad;
  const at::Tensor norm = grad_norm(parameters);
  if (!norm.defined()) return {};
  at::_foreach_mul_(detail::gradients(parameters), (max_norm / (norm + 1e-6)).clamp_max(1.0));
  return norm;
}

}}  // namespace flowmatch
