#pragma once

#include <ATen/Functions.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>

#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

namespace flowmatch { inline namespace v0 {

/// An optimizer that can leave a step out without the program waiting to know: where `found_inf`, a
/// float32 scalar on the device, is 1, `step` changes neither weights nor averages.
class StepMask {
 public:
  virtual ~StepMask() = default;
  /// From the next step on, updates are left out where `found_inf` is 1.
  void mask(at::Tensor found_inf) { found_inf_ = std::move(found_inf); }
  /// Takes the masked steps out of the optimizer's count of steps. Waits for the device.
  virtual void settle() = 0;

 protected:
  at::Tensor found_inf_{};     ///< 1 where the next update is to be left out
  at::Tensor masked_steps_{};  ///< since the last settle
};

/// LibTorch's Adam or AdamW with its options and saved state, whose step is one fused operation
/// over all parameters instead of a loop of small ones (Kingma & Ba 2015, algorithm 1; Loshchilov &
/// Hutter 2019, algorithm 2). Where parameters are of several dtypes or devices, or a parameter,
/// its gradient and its averages do not lie in memory alike, LibTorch's own step runs.
template <class Base, class Options, class State>
class FusedOptimizer : public Base, public StepMask {
 public:
  using Base::Base;

  /// An update of all parameters that have a gradient. With a `closure` it is Base's own step.
  at::Tensor step(typename Base::LossClosure closure = nullptr) override {
    if (closure != nullptr || !fusable()) {
      const bool masked =
          closure == nullptr && found_inf_.defined() && found_inf_.template item<float>() != 0;
      return masked ? at::Tensor{} : Base::step(std::move(closure));
    }
    at::NoGradGuard no_grad;
    if (found_inf_.defined() && !masked_steps_.defined())
      masked_steps_ = at::zeros_like(found_inf_);
    for (auto& group : this->param_groups_)
      step_group(group.params(), static_cast<Options&>(group.options()));
    if (found_inf_.defined()) masked_steps_ += found_inf_;
    return {};
  }

  void settle() override {
    if (!masked_steps_.defined()) return;
    const auto count = static_cast<std::int64_t>(masked_steps_.template item<float>());
    masked_steps_.zero_();
    if (count == 0) return;
    for (auto& [parameter, slot] : this->state_) {
      auto& state = static_cast<State&>(*slot);
      state.step(state.step() - count);
    }
  }

 private:
  // Whether elements have the same places in memory. The stride of a dimension of size 1 is never
  // used, and autograd sets it as it likes.
  static bool lie_alike(const at::Tensor& a, const at::Tensor& b) {
    for (std::int64_t d = 0; d < b.dim(); ++d) {
      if (b.size(d) != 1 && a.stride(d) != b.stride(d)) return false;
    }
    return true;
  }

  // The fused operation walks through raw memory: it does not look at strides.
  bool fusable() const {
    const at::Tensor* first = nullptr;
    for (const auto& group : this->param_groups_) {
      for (const at::Tensor& p : group.params()) {
        if (first == nullptr) first = &p;
        if (p.device() != first->device() || p.scalar_type() != first->scalar_type() ||
            !p.is_floating_point()) {
          return false;
        }
        const at::Tensor& grad = p.grad();
        if (!grad.defined()) continue;
        if (!p.is_non_overlapping_and_dense() || grad.is_sparse() || !lie_alike(grad, p)) {
          return false;
        }
        const auto slot = this->state_.find(p.unsafeGetTensorImpl());
        if (slot != this->state_.end() &&
            !lie_alike(static_cast<const State&>(*slot->second).exp_avg(), p)) {
          return false;
        }
      }
    }
    return true;
  }

  void step_group(const std::vector<at::Tensor>& parameters, const Options& options) {
    std::vector<at::Tensor> params, grads, means, squares, max_squares, steps;
    std::int64_t last_step = 0;
    for (const at::Tensor& p : parameters) {
      if (!p.grad().defined()) continue;
      auto& slot = this->state_[p.unsafeGetTensorImpl()];
      if (!slot) slot = fresh_state(p, options.amsgrad());
      auto& state = static_cast<State&>(*slot);
      state.step(state.step() + 1);
      const double step = static_cast<double>(state.step());
      // Parameters that have always stepped together share one tensor for the count.
      if (steps.empty() || last_step != state.step()) {
        last_step = state.step();
        steps.push_back(at::full({}, step, p.options().dtype(at::kFloat)));
        if (masked_steps_.defined()) steps.back() -= masked_steps_;
      } else {
        steps.push_back(steps.back());
      }
      params.push_back(p);
      grads.push_back(p.grad());
      means.push_back(state.exp_avg());
      squares.push_back(state.exp_avg_sq());
      if (options.amsgrad()) max_squares.push_back(state.max_exp_avg_sq());
    }
    if (params.empty()) return;
    const double beta1 = std::get<0>(options.betas());
    const double beta2 = std::get<1>(options.betas());
    const auto apply = [&](auto fused) {
      fused(params, grads, means, squares, max_squares, steps, options.lr(), beta1, beta2,
            options.weight_decay(), options.eps(), options.amsgrad(), /*maximize=*/false,
            /*grad_scale=*/{}, found_inf_.defined() ? std::optional(found_inf_) : std::nullopt);
    };
    using Lists = at::TensorList;
    using Scale = const std::optional<at::Tensor>&;
    using Fused = void (*)(Lists, Lists, Lists, Lists, Lists, Lists, double, double, double, double,
                           double, bool, bool, Scale, Scale);
    if constexpr (std::derived_from<Base, torch::optim::AdamW>) {
      apply(static_cast<Fused>(at::_fused_adamw_));
    } else {
      apply(static_cast<Fused>(at::_fused_adam_));
    }
  }

  static std::unique_ptr<State> fresh_state(const at::Tensor& p, bool amsgrad) {
    auto state = std::make_unique<State>();
    state->step(0);
    state->exp_avg(at::zeros_like(p, at::MemoryFormat::Preserve));
    state->exp_avg_sq(at::zeros_like(p, at::MemoryFormat::Preserve));
    if (amsgrad) state->max_exp_avg_sq(at::zeros_like(p, at::MemoryFormat::Preserve));
    return state;
  }
};

/// Adam (Kingma & Ba 2015), with decay as a part of the gradient.
using FusedAdam =
    FusedOptimizer<torch::optim::Adam, torch::optim::AdamOptions, torch::optim::AdamParamState>;
/// AdamW (Loshchilov & Hutter 2019), with decay apart from the gradient.
using FusedAdamW =
    FusedOptimizer<torch::optim::AdamW, torch::optim::AdamWOptions, torch::optim::AdamWParamState>;

}}  // namespace flowmatch
