#pragma once

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <limits>
#include <string>
#include <unordered_map>
#include <vector>

#include "flowmatch/core/error.hpp"

namespace flowmatch { inline namespace v0 {

/// Where a module's buffers and frozen parameters held NaN or infinity when this was made: those
/// mean to, such as a causal mask of -inf, and `check_finite` lets them. A mask that forward fills
/// later cannot be told from weights that are lost. Made by default, it knows of none.
class NonfiniteBuffers {
 public:
  /// Knows of none.
  NonfiniteBuffers() = default;
  /// Looks at the module's buffers and frozen parameters.
  explicit NonfiniteBuffers(const torch::nn::Module& module) {
    const at::NoGradGuard no_grad;
    const auto look_at = [&](const std::string& name, const at::Tensor& tensor) {
      const at::Tensor bad = bad_elements(tensor);
      if (bad.defined() && bad.any().item<bool>()) bad_.emplace(name, bad);
    };
    for (const auto& buffer : module.named_buffers()) look_at(buffer.key(), buffer.value());
    for (const auto& p : module.named_parameters()) {
      if (!p.value().requires_grad()) look_at(p.key(), p.value());
    }
  }

  /// Of the buffer or parameter of this `name`: a bool tensor of its shape, or undefined for none.
  at::Tensor of(const std::string& name) const {
    const auto found = bad_.find(name);
    return found == bad_.end() ? at::Tensor{} : found->second;
  }

  /// Where a tensor holds NaN or infinity: bool, of its shape; undefined for a dtype that can hold
  /// neither.
  static at::Tensor bad_elements(const at::Tensor& tensor) {
    if (!tensor.defined() || !(tensor.is_floating_point() || tensor.is_complex())) return {};
    const bool float8 = tensor.element_size() == 1;  // for which there are few operations
    return at::isfinite(float8 ? tensor.to(at::kFloat) : tensor).logical_not_();
  }

 private:
  std::unordered_map<std::string, at::Tensor> bad_{};
};

/// After `step` steps: throws TrainingError where a parameter or buffer holds NaN or infinity, but
/// for the places of buffers and frozen parameters that were so from the beginning (`known`). A
/// finite loss can have an infinite gradient, so a step may spoil the weights before any loss shows
/// it. Waits for the device once.
inline void check_finite(const torch::nn::Module& module, std::int64_t step,
                         const NonfiniteBuffers& known = {}) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> faults;
  const auto look_at = [&](const at::Tensor& tensor, const at::Tensor& allowed) {
    at::Tensor bad = NonfiniteBuffers::bad_elements(tensor);
    if (!bad.defined()) return;
    if (allowed.defined() && allowed.sizes() == bad.sizes())
      bad = bad.logical_and(allowed.to(bad.device()).logical_not());
    const at::Tensor fault = bad.any();
    faults.push_back(faults.empty() ? fault : fault.to(faults.front().device()));
  };
  for (const auto& p : module.named_parameters()) {
    look_at(p.value(), p.value().requires_grad() ? at::Tensor{} : known.of(p.key()));
  }
  for (const auto& buffer : module.named_buffers()) look_at(buffer.value(), known.of(buffer.key()));
  if (faults.empty() || !at::stack(faults).any().item<bool>()) return;
  throw TrainingError("the weights hold NaN or infinity after " + std::to_string(step) +
                          " steps; lower the learning rate, or clip gradients (clip_norm); a "
                          "buffer that is to hold infinity, such as a mask, must do so before the "
                          "trainer is made",
                      step - 1);
}

}}  // namespace flowmatch
