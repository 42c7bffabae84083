#pragma once

#include <ATen/Functions.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/model/state_dict.hpp"

namespace flowmatch::inline v0 {

/// An exponential moving average of a module's parameters, shadow <- d shadow + (1 - d) value;
/// buffers (BatchNorm's statistics) are copied. With warm-up, update n uses d_n = min(decay, (1 +
/// n) / (10 + n)), so that the average leaves the initial weights behind early. Keeps the module's
/// address. Throws OptionError unless 0 < decay < 1.
class Ema {
 public:
  explicit Ema(torch::nn::Module& module, double decay = 0.999, bool warmup = true)
      : module_(&module), decay_(decay), warmup_(warmup) {
    if (!(decay > 0 && decay < 1)) {
      throw OptionError("an EMA decay of " + std::to_string(decay) +
                        "; choose one between 0 and 1, such as 0.999");
    }
    at::NoGradGuard no_grad;
    for (const at::Tensor& p : module.parameters()) parameters_.push_back(p.detach().clone());
    for (const at::Tensor& b : module.buffers()) buffers_.push_back(b.detach().clone());
  }

  /// After each optimizer step.
  void update() {
    at::NoGradGuard no_grad;
    const double n = static_cast<double>(updates_++);
    const double decay = warmup_ ? std::min(decay_, (1 + n) / (10 + n)) : decay_;
    at::_foreach_lerp_(parameters_, module_->parameters(), 1 - decay);
    const std::vector<at::Tensor> live = module_->buffers();
    for (std::size_t i = 0; i < live.size(); ++i) buffers_[i].copy_(live[i]);
  }

  std::int64_t updates() const noexcept { return updates_; }

  /// The averages by name. Throws CheckpointError from `load` where names or shapes do not fit.
  StateDict state() const {
    StateDict state;
    std::size_t i = 0;
    for (const auto& parameter : module_->named_parameters())
      state.insert(parameter.key(), parameters_[i++]);
    i = 0;
    for (const auto& buffer : module_->named_buffers()) state.insert(buffer.key(), buffers_[i++]);
    return state;
  }
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
    explicit Scope(Ema& ema) : ema_(&ema) { ema_->swap(); }
    ~Scope() { ema_->swap(); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Ema* ema_;
  };
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
    exchange(module_->parameters(), parameters_);
    exchange(module_->buffers(), buffers_);
  }

  torch::nn::Module* module_;
  double decay_;
  bool warmup_;
  std::int64_t updates_ = 0;
  std::vector<at::Tensor> parameters_;
  std::vector<at::Tensor> buffers_;
};

}  // namespace flowmatch::inline v0
