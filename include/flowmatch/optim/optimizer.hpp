#pragma once

#include <fmt/format.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/lbfgs.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/optim/fused_adam.hpp"

namespace flowmatch { inline namespace v0 {

/// How the trainer makes its optimizer: from the model's parameters and the learning rate.
/// `adam()`, `adamw()`, `sgd()` and `rmsprop()` make the usual ones; any other torch::optim class
/// comes in through `make`.
struct OptimizerFactory {
  /// Makes one of parameters and a learning rate.
  using Make = std::function<std::unique_ptr<torch::optim::Optimizer>(std::vector<at::Tensor>,
                                                                      double learning_rate)>;
  /// Kept in checkpoints: a run resumes only with the optimizer that it began with.
  std::string description;
  Make make;  ///< called once a run
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
  return fmt::format("{} beta1 {} beta2 {} eps {} weight_decay {}{}", name, s.beta1, s.beta2, s.eps,
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

template <class Optimizer, class Options>
OptimizerFactory adam_factory(const char* name, AdamSettings s) {
  check(name, s);
  return {describe(name, s), [s](std::vector<at::Tensor> parameters, double learning_rate) {
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
  const std::string description = fmt::format("sgd momentum {} weight_decay {}{}", momentum,
                                              weight_decay, nesterov ? " nesterov" : "");
  if (!(momentum >= 0 && momentum < 1) || !detail::is_weight_decay(weight_decay) ||
      (nesterov && momentum == 0)) {
    throw OptionError(description +
                      "; choose a momentum in [0, 1) (above 0 for Nesterov's) and a finite "
                      "weight_decay of at least 0");
  }
  return {description, [=](std::vector<at::Tensor> parameters, double learning_rate) {
            return std::make_unique<torch::optim::SGD>(std::move(parameters),
                                                       torch::optim::SGDOptions(learning_rate)
                                                           .momentum(momentum)
                                                           .weight_decay(weight_decay)
                                                           .nesterov(nesterov));
          }};
}

/// RMSprop (Tieleman & Hinton 2012). Throws OptionError unless alpha and momentum are in [0, 1) and
/// weight_decay >= 0.
inline OptimizerFactory rmsprop(double alpha = 0.99, double momentum = 0, double weight_decay = 0) {
  const std::string description =
      fmt::format("rmsprop alpha {} momentum {} weight_decay {}", alpha, momentum, weight_decay);
  if (!(alpha >= 0 && alpha < 1) || !(momentum >= 0 && momentum < 1) ||
      !detail::is_weight_decay(weight_decay)) {
    throw OptionError(description +
                      "; choose alpha and momentum in [0, 1) and a finite weight_decay of at least "
                      "0");
  }
  return {description, [=](std::vector<at::Tensor> parameters, double learning_rate) {
            return std::make_unique<torch::optim::RMSprop>(
                std::move(parameters), torch::optim::RMSpropOptions(learning_rate)
                                           .alpha(alpha)
                                           .momentum(momentum)
                                           .weight_decay(weight_decay));
          }};
}

/// Makes the optimizer. Throws OptionError for a factory that is empty or gives none, and for
/// optimizers whose step needs a closure (LBFGS): a flow-matching loss is another sample each time
/// it is evaluated.
inline std::unique_ptr<torch::optim::Optimizer> make_optimizer(const OptimizerFactory& factory,
                                                               std::vector<at::Tensor> parameters,
                                                               double learning_rate) {
  if (std::none_of(parameters.begin(), parameters.end(),
                   [](const at::Tensor& p) { return p.requires_grad(); })) {
    throw OptionError(
        "the model has no parameters to train; register its layers, and leave requires_grad set on "
        "some");
  }
  std::unique_ptr<torch::optim::Optimizer> optimizer;
  if (factory.make) optimizer = factory.make(std::move(parameters), learning_rate);
  if (!optimizer)
    throw OptionError("the optimizer factory made none; use adam(), adamw(), sgd() or rmsprop()");
  if (dynamic_cast<torch::optim::LBFGS*>(optimizer.get()) != nullptr) {
    throw OptionError(
        "LBFGS needs a closure that gives the same loss each time; use adam(), adamw(), sgd() or "
        "rmsprop()");
  }
  return optimizer;
}

/// Sets every group's learning rate and, if given, its momentum: beta1 of Adam and AdamW, momentum
/// of SGD and RMSprop.
inline void set_rates(torch::optim::Optimizer& optimizer, double learning_rate,
                      std::optional<double> momentum) {
  for (auto& group : optimizer.param_groups()) {
    auto& options = group.options();
    options.set_lr(learning_rate);
    if (!momentum) continue;
    const auto set_beta1 = [&](auto* adam) {
      adam->betas({*momentum, std::get<1>(adam->betas())});
    };
    if (auto* adam_options = dynamic_cast<torch::optim::AdamOptions*>(&options)) {
      set_beta1(adam_options);
    } else if (auto* adamw_options = dynamic_cast<torch::optim::AdamWOptions*>(&options)) {
      set_beta1(adamw_options);
    } else if (auto* sgd_options = dynamic_cast<torch::optim::SGDOptions*>(&options)) {
      sgd_options->momentum(*momentum);
    } else if (auto* rmsprop_options = dynamic_cast<torch::optim::RMSpropOptions*>(&options)) {
      rmsprop_options->momentum(*momentum);
    }
  }
}

}}  // namespace flowmatch
