#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/GradMode.h>
#include <torch/nn/module.h>

#include <string>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/io/state_dict_file.hpp"  // IWYU pragma: export

namespace flowmatch { inline namespace v0 {

/// Names and values of a module's parameters and buffers: its own tensors (no copies), detached;
/// parameters first, then buffers.
inline StateDict state_dict(const torch::nn::Module& module) {
  StateDict state;
  for (const auto& parameter : module.named_parameters())
    state.insert(parameter.key(), parameter.value().detach());
  for (const auto& buffer : module.named_buffers())
    state.insert(buffer.key(), buffer.value().detach());
  return state;
}

/// A tensor whose stored shape is not the module's, both as people write them: [3, 16].
struct ShapeMisfit {
  std::string name;    ///< of the tensor
  std::string stored;  ///< the shape in the file
  std::string wanted;  ///< the shape in the module
};

/// What of a state fits a module, by the module's names.
struct LoadReport {
  std::vector<std::string> missing;     ///< in the module only
  std::vector<std::string> unexpected;  ///< in the state only
  std::vector<ShapeMisfit> mismatched;  ///< in both, with another shape

  /// Whether every tensor found its place.
  bool fits() const { return missing.empty() && unexpected.empty() && mismatched.empty(); }
  /// A line for each tensor that does not fit.
  std::string text() const {
    std::string lines;
    for (const std::string& name : missing) lines += "  missing: " + name + "\n";
    for (const ShapeMisfit& m : mismatched) {
      lines +=
          "  shape of " + m.name + ": " + m.stored + " stored, " + m.wanted + " in the module\n";
    }
    for (const std::string& name : unexpected) lines += "  unexpected: " + name + "\n";
    return lines;
  }
};

/// Compares names and shapes; loads nothing.
inline LoadReport compare_state_dict(const torch::nn::Module& module, const StateDict& state) {
  LoadReport report;
  const StateDict own = state_dict(module);
  for (const auto& entry : own) {
    const auto found = state.find(entry.key());
    if (found == state.end()) {
      report.missing.push_back(entry.key());
    } else if (!found->value().defined() || found->value().sizes() != entry.value().sizes()) {
      report.mismatched.push_back(
          {entry.key(), shape_text(found->value()), shape_text(entry.value())});
    }
  }
  for (const auto& entry : state) {
    if (!own.contains(entry.key())) report.unexpected.push_back(entry.key());
  }
  return report;
}

/// Options of `load_state_dict`.
struct LoadOptions {
  bool strict = true;  ///< load all or nothing; else what fits, whatever the report says
};

/// Copies `state` into the module, converting dtype and device to the module's. Strides follow the
/// state where dtype and device agree (channels-last weights stay so). Reports what does not fit;
/// strict, that is a CheckpointError instead which holds the report, and nothing is changed.
inline LoadReport load_state_dict(torch::nn::Module& module, const StateDict& state,
                                  const LoadOptions& options = {}) {
  const LoadReport report = compare_state_dict(module, state);
  if (options.strict && !report.fits()) {
    throw CheckpointError(
        "the stored weights belong to another network; build the module with the options it was "
        "trained with, map the names (NameMap), or load what fits (strict = false):\n" +
        report.text());
  }
  const auto load = [&](const std::string& name, at::Tensor& mine) {
    const at::NoGradGuard no_grad;
    const auto found = state.find(name);
    if (found == state.end() || !found->value().defined()) return;
    const at::Tensor& stored = found->value();
    if (mine.sizes() != stored.sizes()) return;
    if (mine.dtype() == stored.dtype() && mine.device() == stored.device() &&
        mine.strides() != stored.strides()) {
      mine.set_data(stored.clone());
    } else {
      mine.copy_(stored);
    }
  };
  for (auto& parameter : module.named_parameters()) load(parameter.key(), parameter.value());
  for (auto& buffer : module.named_buffers()) load(buffer.key(), buffer.value());
  return report;
}

}}  // namespace flowmatch
