#pragma once

#include <ATen/Functions.h>
#include <torch/nn/module.h>
#include <torch/optim/adagrad.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/lbfgs.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_set>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/optim/fused_adam.hpp"
#include "flowmatch/optim/learning_rate.hpp"

namespace flowmatch { inline namespace v0 {

/// Parameters with their names, each once.
using NamedParameters = std::vector<std::pair<std::string, at::Tensor>>;

/// How the trainer makes its optimizer: from the model's parameters and the learning rate.
/// `adam()`, `adamw()`, `sgd()` and `rmsprop()` make the usual ones, `with_groups` gives some of
/// the parameters a rate or weight decay of their own; any other torch::optim class comes in
/// through `make`. Groups that it makes keep their own learning rates: a schedule multiplies each.
///
/// `adam()`, `adamw()`, `sgd()` and `rmsprop()` refuse parameters to train of half precision
/// (OptionError), whose steps round to nothing: keep weights in float32 and set `precision` in the
/// trainer's options. Who wants them all the same gives a `make` of his own.
struct OptimizerFactory {
  /// Makes one of parameters and a learning rate.
  using Make = std::function<std::unique_ptr<torch::optim::Optimizer>(std::vector<at::Tensor>,
                                                                      double learning_rate)>;
  /// The same with their names.
  using MakeNamed = std::function<std::unique_ptr<torch::optim::Optimizer>(const NamedParameters&,
                                                                           double learning_rate)>;
  /// Kept in checkpoints: a run resumes only with the optimizer that it began with.
  std::string description;
  Make make;  ///< called once a run
  /// Comes before `make` where it is set.
  MakeNamed make_named{};
};

/// Adam's numbers, with PyTorch's names and defaults.
struct AdamSettings {
  double beta1 = 0.9;       ///< decay of the mean of gradients
  double beta2 = 0.999;     ///< decay of the mean of their squares
  double eps = 1e-8;        ///< beside the root of the second
  double weight_decay = 0;  ///< pulls weights to 0
  bool amsgrad = false;     ///< Reddi et al. 2018
};

namespace detail {

inline std::string describe(const char* name, const AdamSettings& s) {
  return text_of(name, " beta1 ", s.beta1, " beta2 ", s.beta2, " eps ", s.eps, " weight_decay ",
                 s.weight_decay, s.amsgrad ? " amsgrad" : "");
}

inline bool is_weight_decay(double w) { return w >= 0 && std::isfinite(w); }

inline void check(const char* name, const AdamSettings& s) {
  const auto beta = [](double b) { return b >= 0 && b < 1; };
  if (!beta(s.beta1) || !beta(s.beta2) || !(s.eps >= 0) || !std::isfinite(s.eps) ||
      !is_weight_decay(s.weight_decay)) {
    throw OptionError(describe(name, s) +
                      "; choose betas in [0, 1), and finite eps and weight_decay of at least 0");
  }
}

inline void refuse_half_precision(const std::vector<at::Tensor>& parameters) {
  for (const at::Tensor& p : parameters) {
    if (!p.requires_grad() || p.element_size() >= (p.is_complex() ? 8 : 4)) continue;
    throw OptionError(text_of(
        "a parameter of shape ", shape_text(p), " is ", toString(p.scalar_type()),
        ", in which most steps of training round to nothing; keep the weights in float32 and set "
        "precision = Precision::bfloat16, or give an OptimizerFactory of your own"));
  }
}

/// beta1 of Adam and AdamW, momentum of SGD and RMSprop; others have none.
inline void set_momentum(torch::optim::OptimizerOptions& options, double momentum) {
  const auto set_beta1 = [&](auto& adam) { adam.betas({momentum, std::get<1>(adam.betas())}); };
  if (auto* a = dynamic_cast<torch::optim::AdamOptions*>(&options)) set_beta1(*a);
  if (auto* w = dynamic_cast<torch::optim::AdamWOptions*>(&options)) set_beta1(*w);
  if (auto* s = dynamic_cast<torch::optim::SGDOptions*>(&options)) s->momentum(momentum);
  if (auto* r = dynamic_cast<torch::optim::RMSpropOptions*>(&options)) r->momentum(momentum);
}

inline void refuse_complex(const std::vector<at::Tensor>& parameters) {
  for (const at::Tensor& p : parameters) {
    if (!p.requires_grad() || !p.is_complex()) continue;
    throw OptionError(
        "a parameter is complex, and LibTorch squares the gradients of this optimizer as complex "
        "numbers; use adam(), adamw() or sgd()");
  }
}

/// LibTorch's class with an OptionError for the sparse gradients that it has no step for: any with
/// RMSprop, those of groups with weight decay with SGD.
template <class Base>
class DenseGradients : public Base {
 public:
  using Base::Base;
  at::Tensor step(typename Base::LossClosure closure = nullptr) override {
    for (auto& group : this->param_groups_) {
      const auto* sgd = dynamic_cast<torch::optim::SGDOptions*>(&group.options());
      if (sgd != nullptr && sgd->weight_decay() == 0) continue;
      for (const at::Tensor& p : group.params()) {
        if (!p.grad().defined() || !p.grad().is_sparse()) continue;
        throw OptionError(
            "this optimizer changes whole parameters, and one has a sparse gradient; make the "
            "embedding with sparse(false), or train with sgd() without weight decay");
      }
    }
    return Base::step(std::move(closure));
  }
};

/// Whether two of a tensor's elements lie in one place, as those of `expand` and `unfold` do.
inline bool overlaps_itself(const at::Tensor& t) {
  if (t.layout() != at::kStrided || t.numel() == 0 || t.is_non_overlapping_and_dense())
    return false;
  std::int64_t last = 0;
  for (std::int64_t d = 0; d < t.dim(); ++d) last += (t.size(d) - 1) * t.stride(d);
  const at::Tensor places = at::arange(last + 1).as_strided(t.sizes(), t.strides());
  return std::get<0>(at::_unique(places)).numel() != t.numel();
}

template <class Optimizer, class Options>
OptimizerFactory adam_factory(const char* name, AdamSettings s) {
  check(name, s);
  return {describe(name, s), [s](std::vector<at::Tensor> parameters, double learning_rate) {
            refuse_half_precision(parameters);
            const auto options = Options(learning_rate)
                                     .betas({s.beta1, s.beta2})
                                     .eps(s.eps)
                                     .weight_decay(s.weight_decay)
                                     .amsgrad(s.amsgrad);
            return std::make_unique<Optimizer>(std::move(parameters), options);
          }};
}

}  // namespace detail

/// Adam (Kingma & Ba 2015), fused. Throws OptionError for settings out of range.
inline OptimizerFactory adam(AdamSettings settings = {}) {
  return detail::adam_factory<FusedAdam, torch::optim::AdamOptions>("adam", settings);
}

/// AdamW (Loshchilov & Hutter 2019), fused; weight_decay is decoupled from the gradient.
inline OptimizerFactory adamw(AdamSettings settings = {.weight_decay = 1e-2}) {
  return detail::adam_factory<FusedAdamW, torch::optim::AdamWOptions>("adamw", settings);
}

/// Stochastic gradient descent with momentum, Nesterov's where `nesterov` says so. Throws
/// OptionError unless momentum is in [0, 1) and weight_decay >= 0.
inline OptimizerFactory sgd(double momentum = 0, double weight_decay = 0, bool nesterov = false) {
  const std::string description = text_of("sgd momentum ", momentum, " weight_decay ", weight_decay,
                                          nesterov ? " nesterov" : "");
  if (!(momentum >= 0 && momentum < 1) || !detail::is_weight_decay(weight_decay) ||
      (nesterov && momentum == 0)) {
    throw OptionError(description +
                      "; choose a momentum in [0, 1) (above 0 for Nesterov's) and a finite "
                      "weight_decay of at least 0");
  }
  return {description, [=](std::vector<at::Tensor> parameters, double learning_rate) {
            detail::refuse_half_precision(parameters);
            return std::make_unique<detail::DenseGradients<torch::optim::SGD>>(
                std::move(parameters), torch::optim::SGDOptions(learning_rate)
                                           .momentum(momentum)
                                           .weight_decay(weight_decay)
                                           .nesterov(nesterov));
          }};
}

/// RMSprop (Tieleman & Hinton 2012). Throws OptionError unless alpha and momentum are in [0, 1) and
/// weight_decay >= 0.
inline OptimizerFactory rmsprop(double alpha = 0.99, double momentum = 0, double weight_decay = 0) {
  const std::string description =
      text_of("rmsprop alpha ", alpha, " momentum ", momentum, " weight_decay ", weight_decay);
  if (!(alpha >= 0 && alpha < 1) || !(momentum >= 0 && momentum < 1) ||
      !detail::is_weight_decay(weight_decay)) {
    throw OptionError(description +
                      "; choose alpha and momentum in [0, 1) and a finite weight_decay of at least "
                      "0");
  }
  return {description, [=](std::vector<at::Tensor> parameters, double learning_rate) {
            detail::refuse_half_precision(parameters);
            detail::refuse_complex(parameters);
            return std::make_unique<detail::DenseGradients<torch::optim::RMSprop>>(
                std::move(parameters), torch::optim::RMSpropOptions(learning_rate)
                                           .alpha(alpha)
                                           .momentum(momentum)
                                           .weight_decay(weight_decay));
          }};
}

namespace detail {

template <class... T>
bool is_one_of(const torch::optim::Optimizer& optimizer) {
  return (... || (dynamic_cast<const T*>(&optimizer) != nullptr));
}

inline std::unique_ptr<torch::optim::Optimizer> make_optimizer(const OptimizerFactory& factory,
                                                               const NamedParameters& parameters,
                                                               double learning_rate) {
  std::vector<at::Tensor> all, trained;
  for (const auto& [name, p] : parameters) {
    all.push_back(p);
    if (!p.requires_grad()) continue;
    trained.push_back(p);
    if (overlaps_itself(p)) {
      throw OptionError(text_of("elements of the parameter ", name, " ", shape_text(p),
                                " share memory, so none can be trained; register a clone() of it, "
                                "or one without repetitions that forward expands"));
    }
  }
  if (trained.empty()) {
    throw OptionError(
        "the model has no parameters to train; register its layers, and leave requires_grad set on "
        "some");
  }
  std::unique_ptr<torch::optim::Optimizer> optimizer;
  if (factory.make_named) {
    optimizer = factory.make_named(parameters, learning_rate);
  } else if (factory.make) {
    optimizer = factory.make(std::move(all), learning_rate);
  }
  if (!optimizer)
    throw OptionError("the optimizer factory made none; use adam(), adamw(), sgd() or rmsprop()");
  using namespace torch::optim;
  if (is_one_of<LBFGS>(*optimizer)) {
    throw OptionError(
        "LBFGS needs a closure that gives the same loss each time; use adam(), adamw(), sgd() or "
        "rmsprop()");
  }
  if (is_one_of<Adam, AdamW, Adagrad, RMSprop>(*optimizer) && !is_one_of<StepMask>(*optimizer))
    refuse_complex(trained);
  return optimizer;
}

}  // namespace detail

/// Makes the optimizer of a module's parameters. Throws OptionError for a factory that is empty or
/// gives none, for optimizers whose step needs a closure (LBFGS: a flow-matching loss is another
/// sample each time it is evaluated), for a module without a parameter to train or with one whose
/// elements share memory (`expand`, `unfold`), and for complex ones where LibTorch's class squares
/// their gradients as complex numbers.
inline std::unique_ptr<torch::optim::Optimizer> make_optimizer(const OptimizerFactory& factory,
                                                               torch::nn::Module& module,
                                                               double learning_rate) {
  NamedParameters parameters;
  std::unordered_set<const c10::TensorImpl*> seen;
  for (const auto& each : module.named_parameters()) {
    if (seen.insert(each.value().unsafeGetTensorImpl()).second)
      parameters.emplace_back(each.key(), each.value());
  }
  return detail::make_optimizer(factory, parameters, learning_rate);
}
/// The same factory's for parameters without names.
inline std::unique_ptr<torch::optim::Optimizer> make_optimizer(
    const OptimizerFactory& factory, const std::vector<at::Tensor>& parameters,
    double learning_rate) {
  NamedParameters named;
  for (const at::Tensor& p : parameters) named.emplace_back("", p);
  return detail::make_optimizer(factory, named, learning_rate);
}

/// Sets every group's learning rate and, if given, its momentum: beta1 of Adam and AdamW, momentum
/// of SGD and RMSprop. A run with groups of different rates needs `GroupRates`.
inline void set_rates(torch::optim::Optimizer& optimizer, double learning_rate,
                      std::optional<double> momentum) {
  for (auto& group : optimizer.param_groups()) {
    group.options().set_lr(learning_rate);
    if (momentum) detail::set_momentum(group.options(), *momentum);
  }
}

}}  // namespace flowmatch
