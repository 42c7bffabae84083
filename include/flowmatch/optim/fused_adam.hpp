#pragma once

#include <ATen/Functions.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>

#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"

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
  at::Tensor found_inf_{};  ///< 1 where the next update is to be left out
};

/// LibTorch's Adam or AdamW with its options and saved state, whose step is one fused operation
/// over all parameters instead of a loop of small ones (Kingma & Ba 2015, algorithm 1; Loshchilov &
/// Hutter 2019, algorithm 2). Where parameters are of several dtypes or devices, or a parameter,
/// its gradient and its averages do not lie in memory alike, LibTorch's own step runs.
///
/// A complex parameter is two real ones to it, as to Python's (LibTorch's own squares the complex
/// gradient); one that is a lazily conjugated or negated view moves what it is a view of. Throws
/// OptionError for sparse gradients.
template <class Base, class Options, class State>
class FusedOptimizer : public Base, public StepMask {
 public:
  using Base::Base;

  /// An update of all parameters that have a gradient. With a `closure` it is Base's own step.
  at::Tensor step(typename Base::LossClosure closure = nullptr) override {
    at::Tensor loss;
    if (closure != nullptr) {
      const at::AutoGradMode with_grad(true);
      loss = closure();
    }
    const at::NoGradGuard no_grad;
    if (fusable()) {
      for (auto& group : this->param_groups_)
        step_group(group.params(), static_cast<Options&>(group.options()));
    } else if (!found_inf_.defined() || found_inf_.template item<float>() == 0) {
      settle();  // that step knows nothing of masked ones
      step_one_by_one();
    }
    return loss;
  }

  /// Takes the state that an archive holds. Throws c10::Error for one of other groups,
  /// CheckpointError for one of parameters of other shapes or dtypes.
  void load(torch::serialize::InputArchive& archive) override {
    Base::load(archive);
    masked_.clear();
    for (const auto& group : this->param_groups_) {
      for (const at::Tensor& p : group.params()) {
        const auto slot = this->state_.find(p.unsafeGetTensorImpl());
        if (slot == this->state_.end()) continue;
        const at::Tensor& mean = static_cast<const State&>(*slot->second).exp_avg();
        if (mean.sizes() != p.sizes() || mean.is_complex() != p.is_complex()) {
          throw CheckpointError("the optimizer's state is of other parameters: " +
                                shape_text(mean) + " stored for one of " + shape_text(p) +
                                "; give the same parameters in the same groups and order");
        }
      }
    }
  }

  void settle() override {
    std::unordered_map<const c10::TensorImpl*, std::int64_t> read;  // each count once
    for (const auto& [parameter, count] : masked_) {
      const auto [known, is_new] = read.try_emplace(count.unsafeGetTensorImpl());
      if (is_new) known->second = static_cast<std::int64_t>(count.template item<float>());
      const auto slot = this->state_.find(parameter);
      if (slot == this->state_.end()) continue;
      auto& state = static_cast<State&>(*slot->second);
      state.step(state.step() - known->second);
    }
    masked_.clear();
  }

 private:
  // What the arithmetic is done on.
  static at::Tensor real(const at::Tensor& t) {
    return t.is_complex() ? at::view_as_real(t.resolve_conj()) : t;
  }
  // The same of p, or of its gradient, as p's memory has it: where p is a lazily conjugated or
  // negated view, the numbers there have other signs, and so have their steps.
  static at::Tensor in_memory(at::Tensor t, const at::Tensor& p) {
    if (p.is_conj()) t = t.conj();
    if (p.is_neg()) t = at::_neg_view(t);
    return real(t.resolve_neg());
  }

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
        const at::Tensor& grad = p.grad();
        if (!grad.defined()) continue;
        if (first == nullptr) first = &p;
        if (p.device() != first->device() ||
            c10::toRealValueType(p.scalar_type()) != c10::toRealValueType(first->scalar_type())) {
          return false;
        }
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

  // The fused operation's lists, one entry a parameter.
  struct Operands {
    std::vector<at::Tensor> params{}, grads{}, means{}, squares{}, max_squares{}, steps{};
    // Of the last parameter: its count of steps, how many of them were masked before this one, and
    // with this one.
    std::int64_t last_step = 0;
    at::Tensor last_masked{}, now_masked{};
  };

  void step_group(const std::vector<at::Tensor>& parameters, const Options& options) {
    Operands all;
    for (const at::Tensor& p : parameters) {
      if (p.grad().defined()) add(all, p, options);
    }
    if (!all.params.empty()) apply(all, options);
  }

  void add(Operands& all, const at::Tensor& p, const Options& options) {
    auto& slot = this->state_[p.unsafeGetTensorImpl()];
    if (!slot) slot = fresh_state(p, options.amsgrad());
    auto& state = static_cast<State&>(*slot);
    state.step(state.step() + 1);
    const auto found = masked_.find(p.unsafeGetTensorImpl());
    const at::Tensor masked = found == masked_.end() ? at::Tensor{} : found->second;
    // Parameters that have always stepped together share one tensor for each count.
    if (all.steps.empty() || all.last_step != state.step() || !all.last_masked.is_same(masked)) {
      all.last_step = state.step();
      all.last_masked = masked;
      all.steps.push_back(at::full({}, static_cast<double>(state.step()),
                                   at::TensorOptions(at::kFloat).device(p.device())));
      if (masked.defined()) all.steps.back() -= masked;
      if (found_inf_.defined())
        all.now_masked = masked.defined() ? masked + found_inf_ : found_inf_.clone();
    } else {
      all.steps.push_back(all.steps.back());
    }
    if (found_inf_.defined()) masked_[p.unsafeGetTensorImpl()] = all.now_masked;
    all.params.push_back(in_memory(p, p));
    all.grads.push_back(in_memory(p.grad(), p));
    all.means.push_back(real(state.exp_avg()));
    all.squares.push_back(real(state.exp_avg_sq()));
    if (options.amsgrad()) all.max_squares.push_back(real(state.max_exp_avg_sq()));
  }

  void apply(const Operands& all, const Options& options) const {
    using Lists = at::TensorList;
    using Scale = const std::optional<at::Tensor>&;
    using Fused = void (*)(Lists, Lists, Lists, Lists, Lists, Lists, double, double, double, double,
                           double, bool, bool, Scale, Scale);
    Fused fused = at::_fused_adam_;
    if constexpr (std::derived_from<Base, torch::optim::AdamW>) fused = at::_fused_adamw_;
    fused(all.params, all.grads, all.means, all.squares, all.max_squares, all.steps, options.lr(),
          std::get<0>(options.betas()), std::get<1>(options.betas()), options.weight_decay(),
          options.eps(), options.amsgrad(), /*maximize=*/false, /*grad_scale=*/{},
          found_inf_.defined() ? std::optional(found_inf_) : std::nullopt);
  }

  // LibTorch's own step, but for complex parameters.
  void step_one_by_one() {
    std::vector<std::pair<at::Tensor, at::Tensor>> set_aside;  // a parameter and its gradient
    for (auto& group : this->param_groups_) {
      for (at::Tensor& p : group.params()) {
        if (p.grad().defined() && p.grad().is_sparse()) {
          throw OptionError(
              "Adam keeps averages of whole gradients, and one is sparse; make the embedding with "
              "sparse(false), or train with sgd()");
        }
        if (p.grad().defined() && p.is_complex()) set_aside.emplace_back(p, p.grad());
      }
    }
    for (auto& group : this->param_groups_) {
      for (const at::Tensor& p : group.params()) {
        if (p.grad().defined() && p.is_complex())
          step_dense(p, static_cast<Options&>(group.options()));
      }
    }
    for (auto& [p, grad] : set_aside) p.mutable_grad().reset();
    Base::step();
    for (auto& [p, grad] : set_aside) p.mutable_grad() = grad;
  }

  // By copies that lie in memory alike.
  void step_dense(const at::Tensor& p, const Options& options) {
    Operands own;
    add(own, p, options);
    Operands dense = own;
    for (auto* list :
         {&dense.params, &dense.grads, &dense.means, &dense.squares, &dense.max_squares}) {
      for (at::Tensor& t : *list) t = t.contiguous();
    }
    apply(dense, options);
    own.params[0].copy_(dense.params[0]);
    own.means[0].copy_(dense.means[0]);
    own.squares[0].copy_(dense.squares[0]);
    if (options.amsgrad()) own.max_squares[0].copy_(dense.max_squares[0]);
  }

  static std::unique_ptr<State> fresh_state(const at::Tensor& p, bool amsgrad) {
    auto state = std::make_unique<State>();
    state->step(0);
    state->exp_avg(at::zeros_like(p, at::MemoryFormat::Preserve));
    state->exp_avg_sq(at::zeros_like(p, at::MemoryFormat::Preserve));
    if (amsgrad) state->max_exp_avg_sq(at::zeros_like(p, at::MemoryFormat::Preserve));
    return state;
  }

  // Of the steps that each parameter's state counts since the last settle, those that were masked:
  // a float32 scalar on the device.
  std::unordered_map<void*, at::Tensor> masked_{};
};

/// Adam (Kingma & Ba 2015), with decay as a part of the gradient.
using FusedAdam =
    FusedOptimizer<torch::optim::Adam, torch::optim::AdamOptions, torch::optim::AdamParamState>;
/// AdamW (Loshchilov & Hutter 2019), with decay apart from the gradient.
using FusedAdamW =
    FusedOptimizer<torch::optim::AdamW, torch::optim::AdamWOptions, torch::optim::AdamWParamState>;

}}  // namespace flowmatch
