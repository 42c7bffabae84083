#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/GradMode.h>
#include <torch/nn/module.h>

#include <string>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/io/state_dict_file.hpp"  // IWYU pragma: export
#include "flowmatch/io/tensor_values.hpp"
#include "flowmatch/model/value_checks.hpp"

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

/// What is stored of a tensor and what the module wants, both as people write them: [3, 16].
struct Misfit {
  std::string name;    ///< of the tensor
  std::string stored;  ///< the shape or type in the state
  std::string wanted;  ///< the same in the module
};
/// Its old name.
using ShapeMisfit [[deprecated("use Misfit")]] = Misfit;

/// What of a state fits a module, by the module's names.
struct LoadReport {
  std::vector<std::string> missing;     ///< in the module only
  std::vector<std::string> unexpected;  ///< in the state only
  std::vector<Misfit> mismatched;       ///< in both, with another shape
  /// In both, of a dtype or layout whose values the module's can't hold: complex numbers for real
  /// ones, fractions or negative numbers for whole ones without, what overflows, sparse for dense.
  std::vector<Misfit> unconvertible{};
  /// In both, but the module's shares memory with others whose stored values are different.
  std::vector<std::string> conflicting{};

  /// Whether every tensor found its place.
  bool fits() const {
    return missing.empty() && unexpected.empty() && mismatched.empty() && unconvertible.empty() &&
           conflicting.empty();
  }
  /// A line for each tensor that does not fit.
  std::string text() const {
    std::string lines;
    for (const std::string& name : missing) lines += "  missing: " + name + "\n";
    for (const Misfit& m : mismatched) {
      lines +=
          "  shape of " + m.name + ": " + m.stored + " stored, " + m.wanted + " in the module\n";
    }
    for (const Misfit& m : unconvertible) {
      lines += "  type of " + m.name + ": " + m.stored + " stored, " + m.wanted +
               " in the module, which can't hold its values\n";
    }
    for (const std::string& name : conflicting) {
      lines += "  values of " + name +
               ": it shares memory in the module, whose elements have different values stored\n";
    }
    for (const std::string& name : unexpected) lines += "  unexpected: " + name + "\n";
    return lines;
  }
};

namespace detail {

inline bool converts(const at::Tensor& stored, const at::Tensor& wanted) {
  if (has_plain_values(stored) && has_plain_values(wanted))
    return can_hold(wanted.scalar_type(), stored);
  return stored.layout() == wanted.layout() && stored.scalar_type() == wanted.scalar_type() &&
         !stored.is_meta() && !wanted.is_meta();
}

/// The report, and those of `state` that fit `own`, the tensors of a module.
inline std::pair<LoadReport, StateDict> compare(const StateDict& own, const StateDict& state,
                                                const MemorySharing& sharing) {
  const at::NoGradGuard no_grad;
  LoadReport report;
  StateDict fitting;
  for (const auto& [name, wanted] : own) {
    const auto found = state.find(name);
    if (found == state.end()) {
      report.missing.push_back(name);
      continue;
    }
    const at::Tensor& stored = found->second;
    if (!stored.defined() || stored.sizes() != wanted.sizes()) {
      report.mismatched.push_back({name, shape_text(stored), shape_text(wanted)});
    } else if (!converts(stored, wanted)) {
      report.unconvertible.push_back({name, stored.toString(), wanted.toString()});
    } else {
      fitting.insert(name, stored);
    }
  }
  report.conflicting = sharing.conflicts([&](const std::string& name) {
    const auto found = fitting.find(name);
    return found == fitting.end() ? at::Tensor() : found->second;
  });
  for (const std::string& name : report.conflicting) fitting.erase(name);
  for (const auto& [name, stored] : state) {
    if (!own.contains(name)) report.unexpected.push_back(name);
  }
  return {report, fitting};
}

inline MemorySharing memory_sharing(const StateDict& own) {
  MemorySharing sharing;
  for (const auto& [name, tensor] : own) sharing.add(name, tensor);
  return sharing;
}

}  // namespace detail

/// Compares names, shapes, and whether the values can be held; loads nothing.
inline LoadReport compare_state_dict(const torch::nn::Module& module, const StateDict& state) {
  const StateDict own = state_dict(module);
  return detail::compare(own, state, detail::memory_sharing(own)).first;
}

/// Options of `load_state_dict`.
struct LoadOptions {
  bool strict = true;  ///< load all or nothing; else what fits, whatever the report says
};

/// Copies `state` into the module, converting dtype and device to the module's where that keeps the
/// values: floats of any width into each other, real numbers into complex ones. Strides follow the
/// state where the dtypes agree (channels-last weights stay so), unless the tensor shares its
/// memory: tied weights stay tied, views stay views. Reports what does not fit; strict, that is a
/// CheckpointError instead which holds the report, and nothing is changed.
inline LoadReport load_state_dict(torch::nn::Module& module, const StateDict& state,
                                  const LoadOptions& options = {}) {
  const StateDict own = state_dict(module);
  const detail::MemorySharing sharing = detail::memory_sharing(own);
  auto [report, fitting] = detail::compare(own, state, sharing);
  if (options.strict && !report.fits()) {
    throw CheckpointError(
        "the stored weights belong to another network; build the module with the options it was "
        "trained with, map the names (NameMap), or load what fits (strict = false):\n" +
        report.text());
  }
  for (auto& [name, stored] : fitting) {  // what another name's values would be written over
    const at::Tensor& mine = own.at(name);
    const bool itself = sharing.holds(stored) && stored.dtype() == mine.dtype() &&
                        stored.const_data_ptr() == mine.const_data_ptr() &&
                        stored.strides() == mine.strides();
    if (sharing.holds(stored) && !itself) stored = stored.clone();
  }
  const auto load = [&, &chosen = fitting](const std::string& name, at::Tensor& mine) {
    const at::NoGradGuard no_grad;
    const auto found = chosen.find(name);
    if (found == chosen.end()) return;
    const at::Tensor& stored = found->second;
    if (mine.dtype() == stored.dtype() && sharing.is_alone(mine) &&
        mine.strides() != stored.strides()) {
      mine.set_data(mine.device() == stored.device() ? stored.clone() : stored.to(mine.device()));
    } else {
      detail::copy_into(mine, stored);
    }
  };
  for (auto& parameter : module.named_parameters()) load(parameter.key(), parameter.value());
  for (auto& buffer : module.named_buffers()) load(buffer.key(), buffer.value());
  return report;
}

}}  // namespace flowmatch
