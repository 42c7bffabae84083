#pragma once

#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "flowmatch/model/velocity_model.hpp"

namespace flowmatch { inline namespace v0 { namespace detail {

/// Whether a module is one of LibTorch's own whose forward writes nothing, draws nothing, and
/// answers for each sample by itself: threads may call it at once, each with a part of a batch. No
/// BatchNorm, no Dropout; no Functional either, whose function may do anything.
inline bool is_plain_layer(const torch::nn::Module& module) {
  constexpr std::array layers{"Bilinear",
                              "CELU",
                              "Conv1d",
                              "Conv2d",
                              "Conv3d",
                              "ELU",
                              "Embedding",
                              "Flatten",
                              "GELU",
                              "GLU",
                              "GroupNorm",
                              "Hardtanh",
                              "Identity",
                              "LayerNorm",
                              "LeakyReLU",
                              "Linear",
                              "LogSigmoid",
                              "Mish",
                              "ModuleDict",
                              "ModuleList",
                              "PReLU",
                              "ReLU",
                              "ReLU6",
                              "SELU",
                              "Sequential",
                              "SiLU",
                              "Sigmoid",
                              "Softmax",
                              "Softplus",
                              "Softshrink",
                              "Softsign",
                              "Tanh",
                              "Tanhshrink",
                              "Unflatten",
                              "Upsample",
                              "AvgPool2d",
                              "MaxPool2d",
                              "ConvTranspose1d",
                              "ConvTranspose2d",
                              "ConvTranspose3d",
                              "PixelShuffle"};
  constexpr std::string_view before = "torch::nn::", after = "Impl";
  std::string_view name = module.name();
  if (!name.starts_with(before) || !name.ends_with(after)) return false;
  name = name.substr(before.size(), name.size() - before.size() - after.size());
  if (name == "Embedding") {  // with a maximal norm it changes its weights on the way
    std::ostringstream options;
    module.pretty_print(options);
    if (options.str().find("max_norm") != std::string::npos) return false;
  }
  return std::find(layers.begin(), layers.end(), name) != layers.end();
}

/// Whether the layers below a module are all plain.
inline bool has_plain_layers(const torch::nn::Module& module) {
  const auto children = module.children();
  return std::all_of(children.begin(), children.end(), [](const auto& child) {
    return is_plain_layer(*child) && has_plain_layers(*child);
  });
}

/// Models for threads that call one at the same time, each with its own, where that is known to be
/// as good as one call after another. A model of LibTorch's own layers is shared as it is. A module
/// class of the user's is copied for each thread, by its copy constructor, so that what its forward
/// writes into its members stays in that thread: a copy shares all parameters and layers. These
/// have to be plain (`is_plain_layer`), and the class without buffers.
template <ModuleHandle Model>
class SideBySide {
  using Module = pointee_t<Model>;
  using Shared = std::shared_ptr<Module>;
  static constexpr bool copyable =
      std::copy_constructible<Module> &&
      (std::constructible_from<Model, Shared> || std::constructible_from<Model, Module&> ||
       std::constructible_from<Model, Module*>);

 public:
  /// Whether they can be had of a model.
  static bool possible(Model& model) {
    const Module& module = module_of(model);
    if (typeid(module) != typeid(Module) || !has_plain_layers(module)) return false;
    return is_plain_layer(module) || (copyable && module.buffers(false).empty());
  }

  /// Of a model of which they can be had, as it is now.
  explicit SideBySide(Model& model) {
    if constexpr (copyable) {
      if (is_plain_layer(module_of(model))) return;
      own_ = std::make_shared<Module>(std::as_const(module_of(model)));
      if constexpr (std::constructible_from<Model, Shared>) {
        handle_.emplace(own_);
      } else if constexpr (std::constructible_from<Model, Module&>) {
        handle_.emplace(*own_);
      } else {
        handle_.emplace(own_.get());
      }
    }
  }

  /// What a thread calls.
  Model& operator()(Model& model) { return handle_ ? *handle_ : model; }

 private:
  Shared own_{};
  std::optional<Model> handle_{};  // none: all call the one
};

/// How many parts a batch is worth: at most one a thread, and none of less work than `least`, with
/// which threads wait for one another more than they work.
inline std::int64_t parts_worth(std::int64_t threads, std::int64_t samples, std::int64_t work,
                                std::int64_t least) {
  const std::int64_t most = std::max<std::int64_t>(std::min(threads, samples), 1);
  return std::clamp<std::int64_t>(work / least, 1, most);
}

/// Whether `answer(begin, end)`, a tensor, is the same for a few samples together and as `join`
/// makes it of their halves: not where samples look at one another, or random numbers are drawn.
/// LibTorch's generator is put back.
template <class Answer, class Join>
bool answers_by_sample(std::int64_t samples, const Answer& answer, const Join& join) {
  at::Generator generator = at::globalContext().defaultGenerator(c10::kCPU);
  const auto state = [&](const at::Tensor& next) {
    const std::lock_guard<std::mutex> lock(generator.mutex());
    if (next.defined()) generator.set_state(next);
    return generator.get_state();
  };
  const at::Tensor before = state({});
  const std::int64_t few = samples < 4 ? 2 : 4, half = few / 2;
  const at::Tensor together = answer(0, few);
  const at::Tensor apart = join(answer(0, half), answer(half, few));
  state(before);
  if (together.sizes() != apart.sizes()) return false;
  const double size = together.abs().max().item<double>();
  return (together - apart).abs().max().item<double>() <= 1e-5 * size;
}

}}}  // namespace flowmatch::detail
