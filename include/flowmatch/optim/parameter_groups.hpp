#pragma once

#include <torch/optim/optimizer.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/optim/optimizer.hpp"

namespace flowmatch { inline namespace v0 {

/// Parameters that get a learning rate or weight decay of their own: those whose name begins with
/// `prefix` and that have at most `max_dimensions`.
struct ParameterGroup {
  std::string prefix{};  ///< "encoder."; empty: whatever the name
  /// 1: biases, and the weights of normalisations
  std::int64_t max_dimensions = std::numeric_limits<std::int64_t>::max();
  double rate_factor = 1;                ///< on the run's learning rate, at least 0
  std::optional<double> weight_decay{};  ///< at least 0; absent: the factory's
};

/// No weight decay on the parameters with fewer than two dimensions: biases, and the weights of
/// normalisations.
inline ParameterGroup norms_and_biases_without_decay() {
  return {.max_dimensions = 1, .weight_decay = 0};
}

namespace detail {

inline bool holds(const ParameterGroup& group, const std::string& name, const at::Tensor& p) {
  return name.rfind(group.prefix, 0) == 0 && p.dim() <= group.max_dimensions;
}

inline std::string describe(const ParameterGroup& group) {
  std::string text = text_of("; group '", group.prefix, "'");
  if (group.max_dimensions != ParameterGroup{}.max_dimensions)
    text += text_of(" of at most ", group.max_dimensions, " dimensions");
  if (group.rate_factor != 1) text += text_of(" rate x ", group.rate_factor);
  if (group.weight_decay) text += text_of(" weight_decay ", *group.weight_decay);
  return text;
}

inline void set_weight_decay(torch::optim::OptimizerOptions& options, double weight_decay) {
  const auto set = [&]<class... T>(T*... each) {
    const bool done = (... || (each != nullptr && (each->weight_decay(weight_decay), true)));
    if (!done) throw OptionError("this optimizer has no weight decay to set for a group");
  };
  set(dynamic_cast<torch::optim::AdamOptions*>(&options),
      dynamic_cast<torch::optim::AdamWOptions*>(&options),
      dynamic_cast<torch::optim::SGDOptions*>(&options),
      dynamic_cast<torch::optim::RMSpropOptions*>(&options),
      dynamic_cast<torch::optim::AdagradOptions*>(&options));
}

}  // namespace detail

/// A factory's optimizer with some of the parameters in groups of their own; each parameter is in
/// the first group that it fits, or with the rest. For example
///
///     with_groups(adamw(), {norms_and_biases_without_decay()})
///     with_groups(adam(), {{.prefix = "encoder.", .rate_factor = 0.1}})
///
/// Throws OptionError for a factor or weight decay out of range and for a factory that comes from
/// with_groups; when the optimizer is made, also
/// for a group that no parameter is in.
inline OptimizerFactory with_groups(OptimizerFactory factory, std::vector<ParameterGroup> groups) {
  std::string description = factory.description;
  if (description.find("; group '") != std::string::npos) {
    throw OptionError("with_groups of " + description +
                      ": name all groups in one with_groups, since a parameter is in one only");
  }
  for (const ParameterGroup& group : groups) {
    description += detail::describe(group);
    if (!(group.rate_factor >= 0) || !std::isfinite(group.rate_factor) ||
        (group.weight_decay && !detail::is_weight_decay(*group.weight_decay))) {
      throw OptionError(description + "; choose a finite factor and weight_decay of at least 0");
    }
  }
  const auto make = [factory = std::move(factory), groups = std::move(groups)](
                        const NamedParameters& parameters, double learning_rate) {
    std::vector<std::vector<at::Tensor>> parts(groups.size() + 1);  // the rest comes last
    for (const auto& [name, p] : parameters) {
      std::size_t i = 0;
      while (i < groups.size() && !detail::holds(groups[i], name, p)) ++i;
      parts[i].push_back(p);
    }
    auto optimizer = detail::make_optimizer(factory, parameters, learning_rate);
    if (optimizer->param_groups().size() != 1)
      throw OptionError("the factory makes groups itself; name them all in one with_groups");
    const auto common = optimizer->param_groups().front().options().clone();
    optimizer->param_groups().clear();
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (parts[i].empty() && i == groups.size()) continue;
      if (parts[i].empty()) {
        throw OptionError("no parameter is in the optimizer's" +
                          detail::describe(groups[i]).substr(1) +
                          "; check its name, and that no earlier group has them");
      }
      optimizer->param_groups().emplace_back(std::move(parts[i]), common->clone());
      if (i == groups.size()) continue;
      auto& options = optimizer->param_groups().back().options();
      options.set_lr(learning_rate * groups[i].rate_factor);
      if (groups[i].weight_decay) detail::set_weight_decay(options, *groups[i].weight_decay);
    }
    return optimizer;
  };
  return {description,
          [make](std::vector<at::Tensor> tensors, double learning_rate) {
            NamedParameters parameters;
            for (const at::Tensor& p : tensors) parameters.emplace_back("", p);
            return make(parameters, learning_rate);
          },
          make};
}

}}  // namespace flowmatch
