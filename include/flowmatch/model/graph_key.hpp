#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <vector>

#include "flowmatch/core/autocast.hpp"
#include "flowmatch/core/tensors_in.hpp"
#include "flowmatch/model/modules_in.hpp"

namespace flowmatch { inline namespace v0 { namespace detail {

/// What the recorded work of a model depends on, apart from the values of its inputs and weights:
/// where these differ it must be recorded anew. Cheap enough to be made at every call.
class GraphKey {
 public:
  /// Of work on a device: its stream, and whether autocast is on.
  explicit GraphKey(c10::Device device) {
    const c10::DeviceType type = device.type();
    add(c10::impl::VirtualGuardImpl(type).getStream(device).id());
    add(at::autocast::is_autocast_enabled(type));
    add(static_cast<std::int64_t>(at::autocast::get_autocast_dtype(type)));
  }

  /// Shapes and dtypes of the tensors in an input.
  template <MadeOfTensors T>
  void add_input(const T& input) {
    T seen = input;
    for_each_tensor(seen, [&](const at::Tensor& tensor) {
      add(static_cast<std::int64_t>(tensor.scalar_type()));
      add(tensor.dim());
      parts_.insert(parts_.end(), tensor.sizes().begin(), tensor.sizes().end());
    });
  }

  /// Where the weights of a module lie, and the modes of its parts.
  void add_module(const torch::nn::Module& module) {
    module.apply([&](const torch::nn::Module& part) {
      add(part.is_training());
      for (const at::Tensor& p : part.parameters(/*recurse=*/false)) add_place(p);
      for (const at::Tensor& b : part.buffers(/*recurse=*/false)) add_place(b);
    });
  }
  /// The same of all modules in a model.
  template <class Model>
  void add_model(Model& model) {
    for_each_module(model, [&](const torch::nn::Module& module) { add_module(module); });
  }

  bool operator==(const GraphKey&) const = default;

 private:
  void add(std::int64_t part) { parts_.push_back(part); }
  void add_place(const at::Tensor& tensor) {
    add(reinterpret_cast<std::intptr_t>(tensor.has_storage() ? tensor.const_data_ptr() : nullptr));
    add(tensor.requires_grad());
  }

  std::vector<std::int64_t> parts_{};
};

}}}  // namespace flowmatch::detail
