#pragma once

#include <ATen/Functions.h>
#include <fmt/format.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/model/state_dict.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

/// Each tensor once: a network with tied weights names the same one twice.
inline std::vector<at::Tensor> distinct(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> found;
  std::unordered_set<const c10::TensorImpl*> seen;
  for (const at::Tensor& tensor : tensors) {
    if (seen.insert(tensor.unsafeGetTensorImpl()).second) found.push_back(tensor);
  }
  return found;
}

}  // namespace detail

/// An exponential moving average of a module's parameters, shadow <- d shadow + (1 - d) value, and
/// of its floating-point buffers: BatchNorm's last statistics would not fit the averaged weights.
/// Other buffers (counters) are copied. With warm-up, update n uses d_n = min(decay, (1 +
/// n) / (10 + n)), so that the average leaves the initial weights behind early. Keeps the module's
/// address. Throws OptionError unless 0 < decay < 1.
class Ema {
 public:
  /// Begins with the module's weights; `warmup` as above.
  explicit Ema(torch::nn::Module& module, double decay = 0.999, bool warmup = true)
      : module_(&module), decay_(decay), warmup_(warmup) {
    if (!(decay > 0 && decay < 1)) {
      throw OptionError(
          fmt::format("an EMA decay of {}; choose one between 0 and 1, such as 0.999", decay));
    }
    at::NoGradGuard no_grad;
    for (const at::Tensor& value : live_averaged()) averaged_.push_back(value.detach().clone());
    for (const at::Tensor& value : live_copied()) copied_.push_back(value.detach().clone());
  }

  /// After each optimizer step.
  void update() {
    at::NoGradGuard no_grad;
    const double n = static_cast<double>(updates_++);
    const double decay = warmup_ ? std::min(decay_, (1 + n) / (10 + n)) : decay_;
    if (!averaged_.empty()) at::_foreach_lerp_(averaged_, live_averaged(), 1 - decay);
    if (copied_.empty()) return;  // a walk through the module less
    const std::vector<at::Tensor> live = live_copied();
    for (std::size_t i = 0; i < live.size(); ++i) copied_[i].copy_(live[i]);
  }

  /// How often `update` was called.
  std::int64_t updates() const noexcept { return updates_; }

  /// The averages by name; no copies.
  StateDict state() const {
    std::unordered_map<const c10::TensorImpl*, at::Tensor> shadow_of;
    const auto pair = [&](const std::vector<at::Tensor>& live, const auto& shadows) {
      for (std::size_t i = 0; i < live.size(); ++i)
        shadow_of[live[i].unsafeGetTensorImpl()] = shadows[i];
    };
    pair(live_averaged(), averaged_);
    pair(live_copied(), copied_);
    StateDict state;
    for (const auto& parameter : module_->named_parameters())
      state.insert(parameter.key(), shadow_of.at(parameter.value().unsafeGetTensorImpl()));
    for (const auto& buffer : module_->named_buffers())
      state.insert(buffer.key(), shadow_of.at(buffer.value().unsafeGetTensorImpl()));
    return state;
  }
  /// Takes averages back that `state` gave, with their number of updates. Throws CheckpointError
  /// where names or shapes do not fit; nothing has changed then.
  void load(const StateDict& state, std::int64_t updates) {
    swap();  // into the module, where load_state_dict checks names and shapes
    try {
      load_state_dict(*module_, state);
    } catch (...) {
      swap();
      throw;
    }
    swap();
    updates_ = updates;
  }

  /// While it lives, the module has the averaged weights; afterwards its own again.
  class Scope {
   public:
    /// Swaps in.
    explicit Scope(Ema& ema) : ema_(&ema) { ema_->swap(); }
    ~Scope() { ema_->swap(); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Ema* ema_;
  };
  /// Lends the module the averages for as long as the scope lives.
  [[nodiscard]] Scope swap_in() { return Scope(*this); }

 private:
  void swap() {
    const auto exchange = [](std::vector<at::Tensor> live, std::vector<at::Tensor>& shadow) {
      for (std::size_t i = 0; i < live.size(); ++i) {
        const at::Tensor own = live[i].detach().alias();
        live[i].set_data(shadow[i]);
        shadow[i] = own;
      }
    };
    exchange(live_averaged(), averaged_);
    exchange(live_copied(), copied_);
  }

  std::vector<at::Tensor> live_averaged() const {
    return with_buffers(module_->parameters(), /*floating_point=*/true);
  }
  std::vector<at::Tensor> live_copied() const { return with_buffers({}, false); }

  std::vector<at::Tensor> with_buffers(std::vector<at::Tensor> values, bool floating_point) const {
    for (const at::Tensor& buffer : module_->buffers()) {
      if (buffer.is_floating_point() == floating_point) values.push_back(buffer);
    }
    return detail::distinct(values);
  }

  torch::nn::Module* module_;
  double decay_;
  bool warmup_;
  std::int64_t updates_ = 0;
  std::vector<at::Tensor> averaged_;
  std::vector<at::Tensor> copied_;
};

}}  // namespace flowmatch
