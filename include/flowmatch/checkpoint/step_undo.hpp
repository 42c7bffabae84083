#pragma once

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "flowmatch/checkpoint/generators.hpp"

namespace flowmatch { inline namespace v0 {

/// What a step's forward pass changes besides gradients: a module's buffers (BatchNorm's
/// statistics) and the default generators. Puts both back as they were when it was made, unless
/// told to `keep` them: a step that fails, or whose data source throws, leaves no trace. It is
/// given the buffers, as a walk through the module would cost up to half of it at every step.
class StepUndo {
 public:
  /// Remembers the buffers and the generators as they are.
  StepUndo(std::vector<at::Tensor> buffers, c10::Device device)
      : buffers_(std::move(buffers)), device_(device), generators_(generator_states(device)) {
    const at::NoGradGuard no_grad;
    for (const at::Tensor& buffer : buffers_) copies_.push_back(buffer.clone());
  }
  ~StepUndo() {
    if (kept_) return;
    restore_buffers();
    restore_generators(generators_, device_);
  }
  StepUndo(const StepUndo&) = delete;
  StepUndo& operator=(const StepUndo&) = delete;

  /// The step counts: nothing is undone.
  void keep() noexcept { kept_ = true; }

  /// Puts the buffers back, and not the generators.
  void restore_buffers() {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < buffers_.size(); ++i) buffers_[i].copy_(copies_[i]);
  }
  /// Only where `bad`, a bool scalar on the device, holds; does not wait for it.
  void restore_buffers_where(const at::Tensor& bad) {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < buffers_.size(); ++i)
      buffers_[i].copy_(at::where(bad, copies_[i], buffers_[i]));
  }

 private:
  std::vector<at::Tensor> buffers_;
  std::vector<at::Tensor> copies_{};
  c10::Device device_;
  StateDict generators_;
  bool kept_ = false;
};

}}  // namespace flowmatch
