#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <map>
#include <string>
#include <vector>

#include "flowmatch/core/expand.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

/// Those that there are. What autograd has put off is done: operations on lists change no tensor in
/// place that is a lazily conjugated or negated view.
inline std::vector<at::Tensor> gradients(const std::vector<at::Tensor>& parameters) {
  std::vector<at::Tensor> grads;
  for (const at::Tensor& p : parameters) {
    const at::Tensor& grad = p.grad();
    if (!grad.defined()) continue;
    if (grad.is_conj() || grad.is_neg())
      at::Tensor(p).mutable_grad() = grad.resolve_conj().resolve_neg();
    grads.push_back(p.grad());
  }
  return grads;
}

}  // namespace detail

/// The 2-norm of all gradients together (of complex ones by their absolute values), a scalar
/// tensor, float32 or, where one of them is, float64; NaN or infinite where one of them is. It does
/// not wait for the device. Parameters without a gradient, and those without elements, are passed
/// over; returns an undefined tensor if none is left.
inline at::Tensor grad_norm(const std::vector<at::Tensor>& parameters) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> grads;
  for (at::Tensor grad : detail::gradients(parameters)) {
    if (grad.is_sparse()) grad = grad.coalesce().values();
    if (grad.numel() == 0) continue;
    // The sum of squares of half-precision numbers is beyond their range.
    if (grad.element_size() < (grad.is_complex() ? 8 : 4))
      grad = grad.to(grad.is_complex() ? at::kComplexFloat : at::kFloat);
    grads.push_back(grad);
  }
  if (grads.empty()) return {};
  std::vector<at::Tensor> norms = at::_foreach_norm(grads, 2);
  at::TensorOptions options = norms.front().options();
  for (const at::Tensor& norm : norms) {
    if (norm.scalar_type() == at::kDouble) options = options.dtype(at::kDouble);
  }
  for (at::Tensor& norm : norms) norm = norm.to(options);
  return at::linalg_vector_norm(at::stack(norms), 2);
}

/// Scales all gradients by min(1, max_norm / (norm + 1e-6)), norm being their `grad_norm` (Pascanu
/// et al. 2013, algorithm 1), and returns that norm. Unlike torch::nn::utils::clip_grad_norm_ it
/// never waits for the device.
inline at::Tensor clip_grad_norm(const std::vector<at::Tensor>& parameters, double max_norm) {
  const at::NoGradGuard no_grad;
  const at::Tensor norm = grad_norm(parameters);
  if (!norm.defined()) return {};
  const at::Tensor factor = (max_norm / (norm + 1e-6)).clamp_max(1.0);
  std::map<std::string, std::vector<at::Tensor>> by_device;
  for (const at::Tensor& grad : detail::gradients(parameters)) {
    const at::Tensor values = grad.is_sparse() ? grad._values() : grad;
    by_device[values.device().str()].push_back(without_repetitions(values));
  }
  for (const auto& [device, grads] : by_device)
    at::_foreach_mul_(grads, factor.to(grads.front().device()));
  return norm;
}

}}  // namespace flowmatch
