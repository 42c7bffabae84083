#pragma once

#include <torch/nn/module.h>

#include <cstddef>
#include <vector>

#include "flowmatch/model/modules_in.hpp"

namespace flowmatch { inline namespace v0 {

/// Puts all modules that lie in a model (see for_each_module) and all of their submodules into
/// evaluation mode, and each back into the mode it had at the scope's end. Where all are in
/// evaluation mode already nothing is written, so that several threads can share such a model. What
/// a module's own `train` throws at the beginning is passed on, with the modes put back; at the end
/// there is nobody to tell, and the others get theirs all the same.
class EvalScope {
 public:
  /// Puts what lies in `model` into evaluation mode.
  template <class Model>
  explicit EvalScope(Model& model) {
    for_each_module(model, [&](torch::nn::Module& module) { collect(module); });
    try {
      for (torch::nn::Module* each : training_) each->train(false);
    } catch (...) {
      put_back();
      throw;
    }
  }
  ~EvalScope() { put_back(); }
  EvalScope(const EvalScope&) = delete;
  EvalScope& operator=(const EvalScope&) = delete;

 private:
  // Children come after their parents: setting a parent sets its children, which then get their own
  // mode back.
  void put_back() noexcept {
    for (std::size_t i = 0; i < all_.size() && !training_.empty(); ++i) {
      try {
        all_[i]->train(was_training_[i]);
      } catch (...) {
      }
    }
  }

  void collect(torch::nn::Module& module) {
    all_.push_back(&module);
    was_training_.push_back(module.is_training());
    if (module.is_training()) training_.push_back(&module);
    for (const auto& child : module.children()) collect(*child);
  }

  std::vector<torch::nn::Module*> all_;
  std::vector<bool> was_training_;
  std::vector<torch::nn::Module*> training_;
};

}}  // namespace flowmatch
