#pragma once

#include <ATen/core/Dict.h>
#include <ATen/core/ivalue.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/serialization/import_read.h>
#include <torch/csrc/jit/serialization/pickle.h>
#include <torch/nn/module.h>

#include <filesystem>
#include <fstream>
#include <ios>
#include <sstream>
#include <string>
#include <vector>

#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/read_file.hpp"

namespace flowmatch::inline v0 {

/// Names and values of a module's parameters and buffers, by Python's names: "layer.0.weight".
using StateDict = c10::Dict<std::string, at::Tensor>;

/// The module's own tensors (no copies), detached; parameters first, then buffers.
inline StateDict state_dict(const torch::nn::Module& module) {
  StateDict state;
  for (const auto& parameter : module.named_parameters())
    state.insert(parameter.key(), parameter.value().detach());
  for (const auto& buffer : module.named_buffers())
    state.insert(buffer.key(), buffer.value().detach());
  return state;
}

/// Copies `state` into the module, converting dtype and device to the module's. Strides follow the
/// state where dtype and device agree (channels-last weights stay so). Nothing is changed unless
/// every name and shape fits: otherwise a CheckpointError lists what is missing, unexpected or of
/// another shape.
inline void load_state_dict(torch::nn::Module& module, const StateDict& state) {
  std::string misfits;
  const StateDict own = state_dict(module);
  for (const auto& entry : own) {
    const auto found = state.find(entry.key());
    if (found == state.end()) {
      misfits += "\n  missing: " + entry.key();
    } else if (found->value().sizes() != entry.value().sizes()) {
      misfits += "\n  shape of " + entry.key() + ": " + shape_text(found->value()) + " stored, " +
                 shape_text(entry.value()) + " in the module";
    }
  }
  for (const auto& entry : state) {
    if (!own.contains(entry.key())) misfits += "\n  unexpected: " + entry.key();
  }
  if (!misfits.empty()) {
    throw CheckpointError(
        "the stored weights belong to another network; build the module with the options it was "
        "trained with:" +
        misfits);
  }
  const auto load = [&](at::Tensor& mine, const at::Tensor& stored) {
    at::NoGradGuard no_grad;
    if (mine.dtype() == stored.dtype() && mine.device() == stored.device() &&
        mine.strides() != stored.strides()) {
      mine.set_data(stored.clone());
    } else {
      mine.copy_(stored);
    }
  };
  for (auto& parameter : module.named_parameters())
    load(parameter.value(), state.at(parameter.key()));
  for (auto& buffer : module.named_buffers()) load(buffer.value(), state.at(buffer.key()));
}

/// Writes a state dict as a file that Python's `torch.load(path, weights_only=True)` reads as well.
/// Throws CheckpointError where the file can't be written.
inline void save_state_dict(const std::filesystem::path& path, const StateDict& state) {
  StateDict on_cpu;
  for (const auto& entry : state) on_cpu.insert(entry.key(), entry.value().cpu());
  const std::vector<char> bytes = torch::jit::pickle_save(on_cpu);
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) {
    throw CheckpointError("cannot write " + path.string() +
                          "; check that the folder exists, is writable and has room");
  }
}

/// Reads a file of `save_state_dict`. Throws CheckpointError where it is missing, damaged or holds
/// something else.
inline StateDict read_state_dict(const std::filesystem::path& path) {
  std::istringstream stream(read_file<CheckpointError>(path));
  try {
    // Not torch::jit::pickle_load, which reads beyond the end of a file that is cut.
    caffe2::serialize::PyTorchStreamReader reader(&stream);
    const c10::IValue value = torch::jit::readArchiveAndTensors("data", "", "", {}, {}, {}, reader);
    StateDict state;
    for (const auto& entry : value.toGenericDict()) {
      state.insert(entry.key().toStringRef(), entry.value().toTensor());
    }
    return state;
  } catch (const std::exception&) {
    throw CheckpointError(
        path.string() +
        " is damaged or not a file of weights; restore it from a copy, or train again");
  }
}

}  // namespace flowmatch::inline v0
