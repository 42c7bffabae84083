#pragma once

#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/lbfgs.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/train/fused_adam.hpp"

namespace flowmatch::inline v0 {

/// How the trainer makes its optimizer: from the model's parameters and the learning rate.
/// `adam()`, `adamw()`, `sgd()` and `rmsprop()` make the usual ones; any other torch::optim class
/// comes in through `make`.
struct OptimizerFactory {
  using Make = std::function<std::unique_ptr<torch::optim::Optimizer>(std::vector<at::Tensor>,
                                                                      double learning_rate)>;
  /// Kept in checkpoints: a run resumes only with the optimizer that it began with.
  std::string description;
  Make make;
};

struct AdamSettings {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  bool amsgrad = false;
};

namespace detail {

inline std::string describe(const char* name, const AdamSettings& s) {
  return std::string(name) + " beta1 " + std::to_string(s.beta1) + " beta2 " +
         std::to_string(s.beta2) + " eps " + std::to_string(s.eps * 1e9) + "e-9 weight_decay " +
         std::to_string(s.weight_decay) + (s.amsgrad ? " amsgrad" : "");
}

inline void check(const AdamSettings& s) {
  const auto beta = [](double b) { return b >= 0 && b < 1; };
  if (!beta(s.beta1) || !beta(s.beta2) || !(s.eps >= 0) || !(s.weight_decay >= 0) ||
      !std::isfinite(s.eps) || !std::isfinite(s.weight_decay)) {
    throw OptionError("Adam with " + describe("", s) +
                      "; choose betas in [0, 1), and finite eps and weight_decay of at least 0");
  }
}

template <class Optimizer, class Options>
OptimizerFactory adam_factory(const char* name, AdamSettings s) {
  check(s);
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

/// Stochastic gradient descent with momentum. Throws OptionError unless momentum is in [0, 1) and
/// weight_decay >= 0.
inline OptimizerFactory sgd(double momentum = 0, double weight_decay = 0, bool nesterov = false) {
  if (!(momentum >= 0 && momentum < 1) || !(weight_decay >= 0) || (nesterov && momentum == 0)) {
    throw OptionError(
        "SGD with momentum " + std::to_string(momentum) + " and weight_decay " +
        std::to_string(weight_decay) +
        "; choose a momentum in [0, 1) (above 0 for Nesterov's) and a weight_decay of at least 0");
  }
  return {"sgd momentum " + std::to_string(momentum) + " weight_decay " +
              std::to_string(weight_decay) + (nesterov ? " nesterov" : ""),
          [=](std::vector<at::Tensor> parameters, double learning_rate) {
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
  if (!(alpha >= 0 && alpha < 1) || !(momentum >= 0 && momentum < 1) || !(weight_decay >= 0)) {
    throw OptionError("RMSprop with alpha " + std::to_string(alpha) + ", momentum " +
                      std::to_string(momentum) + " and weight_decay " +
                      std::to_string(weight_decay) +
                      "; choose alpha and momentum in [0, 1) and a weight_decay of at least 0");
  }
  return {"rmsprop alpha " + std::to_string(alpha) + " momentum " + std::to_string(momentum) +
              " weight_decay " + std::to_string(weight_decay),
          [=](std::vector<at::Tensor> parameters, double learning_rate) {
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
  if (parameters.empty())
    throw OptionError("the model has no parameters to train; register its layers");
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

}  // namespace flowmatch::inline v0
