#pragma once

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <exception>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "flowmatch/checkpoint/generators.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/one_piece.hpp"

namespace flowmatch { inline namespace v0 {

/// What a step's forward pass changes besides gradients: a module's buffers (BatchNorm's
/// statistics) and the default generators. Puts both back as they were when it was made, unless
/// told to `keep` them: a step that fails, or whose data source throws, leaves no trace. Buffers
/// that were resized, or given other data or another dtype, get their own back. It is given the
/// buffers, as a walk through the module would cost up to half of it at every step.
class StepUndo {
 public:
  /// Remembers the buffers and the generators as they are.
  StepUndo(const std::vector<at::Tensor>& buffers, c10::Device device)
      : device_(device), generators_(generator_states(device)) {
    const at::NoGradGuard no_grad;
    for (const at::Tensor& buffer : buffers) {
      const at::Tensor before = buffer.detach();
      Alike& group = alike_[{buffer.scalar_type(), buffer.device().str()}];
      group.saved.push_back({buffer, before});
      group.places.push_back(without_repetitions(before));
    }
    for (auto& [kind, group] : alike_) group.copy = detail::in_one_piece(group.places);
  }
  ~StepUndo() {
    if (kept_) return;
    try {
      restore_buffers();
      restore_generators(generators_, device_);
    } catch (const std::exception&) {  // the error that is under way is the one to hear of
    }
  }
  StepUndo(const StepUndo&) = delete;
  StepUndo& operator=(const StepUndo&) = delete;

  /// The step counts: nothing is undone.
  void keep() noexcept { kept_ = true; }

  /// Puts the buffers back, and not the generators.
  void restore_buffers() {
    const at::NoGradGuard no_grad;
    for (auto& [kind, group] : alike_) {
      for (Saved& each : group.saved) each.take_back_memory();
      detail::copy_from_one_piece(group.places, group.copy);
    }
  }
  /// Only where `bad`, a bool scalar on the device, holds; does not wait for it, but where a buffer
  /// was given another shape or other data.
  void restore_buffers_where(const at::Tensor& bad) {
    const at::NoGradGuard no_grad;
    for (auto& [kind, group] : alike_) {
      for (Saved& each : group.saved) {
        if (!each.in_place() && bad.item<bool>()) each.take_back_memory();
      }
      const at::Tensor now = detail::in_one_piece(group.places);
      detail::copy_from_one_piece(group.places, at::where(bad.to(now.device()), group.copy, now));
    }
  }

 private:
  struct Saved {
    at::Tensor buffer;  // the module's
    at::Tensor before;  // the same memory, seen as it was

    bool in_place() const {
      return buffer.scalar_type() == before.scalar_type() && buffer.sizes() == before.sizes() &&
             buffer.strides() == before.strides() && buffer.is_alias_of(before) &&
             buffer.storage_offset() == before.storage_offset();
    }
    void take_back_memory() {
      if (!in_place()) buffer.set_data(before);
    }
  };
  // Those of one dtype and device.
  struct Alike {
    std::vector<Saved> saved{};
    std::vector<at::Tensor> places{};  // of their memory what can be written to
    at::Tensor copy{};                 // and what that held, in one piece
  };

  std::map<std::pair<at::ScalarType, std::string>, Alike> alike_{};
  c10::Device device_;
  StateDict generators_;
  bool kept_ = false;
};

}}  // namespace flowmatch
