#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

/// Each tensor once: a network with tied weights names the same one twice.
inline std::vector<at::Tensor> distinct(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> found;
  std::unordered_set<const c10::TensorImpl*> seen;
  for (const at::Tensor& tensor : tensors) {
    if (seen.insert(tensor.unsafeGetTensorImpl()).second) found.push_back(tensor);
  }
  return found;
}

}  // namespace detail

/// The parameters and buffers that a module had registered when this was made, and whether it still
/// has them: averages and optimizers keep tensors beside them, which fit no others. Keeps the
/// module's address. Looking is cheap enough for every training step: it makes no names.
class ModuleTensors {
 public:
  /// A tensor as the module has it.
  struct Named {
    std::string name;   ///< "layer.0.weight"
    at::Tensor tensor;  ///< the module's own
    std::string kind;   ///< dtype, shape and device, as text
  };

  /// Remembers what the module has now. Throws OptionError for a sparse tensor, which can be
  /// neither averaged nor put back after a step.
  explicit ModuleTensors(const torch::nn::Module& module)
      : module_(&module),
        named_parameters_(named(module.named_parameters())),
        named_buffers_(named(module.named_buffers())) {
    for (const auto* all : {&named_parameters_, &named_buffers_}) {
      for (const Named& each : *all) require_dense(each);
    }
    collect(module, parameters_, buffers_);
  }

  /// In the order of named_parameters(); a tied one stands there under each of its names.
  const std::vector<Named>& parameters() const noexcept { return named_parameters_; }
  /// In the order of named_buffers().
  const std::vector<Named>& buffers() const noexcept { return named_buffers_; }

  /// What `changed` finds.
  struct Changed {
    bool parameters = false;  ///< some of them
    bool buffers = false;     ///< some of them
  };
  /// Whether the module's parameters, and whether its buffers, are no longer the same tensor
  /// objects, or differ in dtype, shape or device.
  Changed changed() const {
    Comparison parameters(parameters_);
    Comparison buffers(buffers_);
    compare(*module_, parameters, buffers);
    return {parameters.differs(), buffers.differs()};
  }

  /// Throws OptionError naming what was added, removed or changed since; `owner` is what needs the
  /// module as it was, such as "the trainer".
  void require_unchanged(const std::string& owner) const {
    const auto [parameters, buffers] = changed();
    if (parameters || buffers) fail(owner);
  }

  /// Throws it, whether or not there is a difference; `owner` as above.
  [[noreturn]] void fail(const std::string& owner) const {
    throw OptionError(
        "the module is not what it was when " + owner + " was made; change it before, or make " +
        owner + " anew:" +
        differences("parameter ", named_parameters_, named(module_->named_parameters())) +
        differences("buffer ", named_buffers_, named(module_->named_buffers())));
  }

 private:
  static void require_dense(const Named& each) {
    if (each.tensor.layout() == at::kStrided) return;
    throw OptionError("the module's " + each.name +
                      " is sparse, which training cannot keep; register its indices and values as "
                      "buffers, and make the sparse tensor of them in forward");
  }

  struct Seen {
    at::Tensor tensor;
    at::ScalarType dtype;
    c10::Device device;
    std::vector<std::int64_t> sizes;
  };

  static void collect(const torch::nn::Module& module, std::vector<Seen>& parameters,
                      std::vector<Seen>& buffers) {
    const auto see = [](const at::Tensor& t) {
      return Seen{t, t.scalar_type(), t.device(), t.sizes().vec()};
    };
    for (const at::Tensor& p : module.parameters(/*recurse=*/false)) parameters.push_back(see(p));
    for (const at::Tensor& b : module.buffers(/*recurse=*/false)) buffers.push_back(see(b));
    for (const auto& child : module.children()) collect(*child, parameters, buffers);
  }

  // The next ones in a walk against those that were seen, in the same order.
  class Comparison {
   public:
    explicit Comparison(const std::vector<Seen>& seen) : seen_(seen) {}
    void operator()(const std::vector<at::Tensor>& tensors) {
      for (const at::Tensor& t : tensors) {
        if (next_ == seen_.size()) {
          differs_ = true;
          return;
        }
        const Seen& was = seen_[next_++];
        differs_ = differs_ || !t.is_same(was.tensor) || t.scalar_type() != was.dtype ||
                   t.device() != was.device || t.sizes() != at::IntArrayRef(was.sizes);
      }
    }
    bool differs() const { return differs_ || next_ != seen_.size(); }

   private:
    const std::vector<Seen>& seen_;
    std::size_t next_ = 0;
    bool differs_ = false;
  };

  static void compare(const torch::nn::Module& module, Comparison& parameters,
                      Comparison& buffers) {
    parameters(module.parameters(/*recurse=*/false));
    buffers(module.buffers(/*recurse=*/false));
    for (const auto& child : module.children()) compare(*child, parameters, buffers);
  }

  static std::vector<Named> named(const torch::OrderedDict<std::string, at::Tensor>& tensors) {
    std::vector<Named> all;
    for (const auto& entry : tensors) {
      const at::Tensor& t = entry.value();
      all.push_back({entry.key(), t,
                     std::string(toString(t.scalar_type())) + " " + shape_text(t) + " on " +
                         t.device().str()});
    }
    return all;
  }

  static std::string differences(const std::string& what, const std::vector<Named>& before,
                                 const std::vector<Named>& now) {
    std::unordered_map<std::string, const Named*> old;
    for (const Named& each : before) old.emplace(each.name, &each);
    std::string lines;
    for (const Named& each : now) {
      const auto found = old.find(each.name);
      if (found == old.end()) {
        lines += "\n  " + what + each.name + " was added";
        continue;
      }
      if (found->second->kind != each.kind) {
        lines += "\n  " + what + each.name + " is " + each.kind + ", it was " + found->second->kind;
      } else if (!found->second->tensor.is_same(each.tensor)) {
        lines += "\n  " + what + each.name + " is another tensor";
      }
      old.erase(found);
    }
    for (const Named& each : before) {
      if (old.count(each.name) != 0) lines += "\n  " + what + each.name + " was removed";
    }
    return lines;
  }

  const torch::nn::Module* module_;
  std::vector<Named> named_parameters_;
  std::vector<Named> named_buffers_;
  std::vector<Seen> parameters_{};
  std::vector<Seen> buffers_{};
};

}}  // namespace flowmatch
