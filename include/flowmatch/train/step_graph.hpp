#pragma once

#include <ATen/Functions.h>
#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "flowmatch/core/cuda_graph.hpp"
#include "flowmatch/core/tensors_in.hpp"
#include "flowmatch/model/graph_key.hpp"

namespace flowmatch { inline namespace v0 {

/// The way forward and backward of training steps as one CUDA graph (`TrainOptions::cuda_graph`).
/// The first `warm_up` steps of a shape run as they are, and so does every step of another shape,
/// such as an epoch's last, smaller batch. What is drawn for a step, the optimizer and the averages
/// stay outside: their numbers change from step to step.
template <class Example>
class StepGraph {
 public:
  /// Steps of one shape in a row before it is recorded.
  static constexpr std::int64_t warm_up = 3;

  /// Of steps that leave gradients in these `parameters` of a `module`, on a CUDA device.
  StepGraph(const torch::nn::Module& module, std::vector<at::Tensor> parameters)
      : module_(&module), parameters_(std::move(parameters)) {}

  /// The loss of an example, and its gradients in the parameters, which have none before: by
  /// `pass(example)`, which computes both, or by what was recorded of it.
  template <class Pass>
  at::Tensor operator()(const Example& example, const Pass& pass) {
    detail::GraphKey key(example.x_t.device());
    key.add_input(example);
    key.add_module(*module_);
    const bool recorded = graph_ && recorded_ == key;
    in_a_row_ = last_ == key ? in_a_row_ + 1 : 1;
    last_ = std::move(key);
    if (!recorded) {
      if (in_a_row_ <= warm_up) return pass(example);
      record(example, pass);
    }
    return replay(example);
  }

 private:
  template <class Pass>
  void record(const Example& example, const Pass& pass) {
    forget();
    Example fixed = example;
    for_each_tensor(fixed, [&](at::Tensor& each) {
      each = each.clone();
      inputs_.push_back(each);
    });
    graph_.emplace(fixed.x_t.device(), [&] { loss_ = pass(fixed); });
    for (const at::Tensor& p : parameters_) gradients_.push_back(p.grad());
    recorded_ = last_;
  }

  at::Tensor replay(const Example& example) {
    std::vector<at::Tensor> values;
    Example given = example;
    for_each_tensor(given, [&](const at::Tensor& each) { values.push_back(each); });
    at::_foreach_copy_(inputs_, values);
    graph_->replay();
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      parameters_[i].mutable_grad() = gradients_[i];
    return loss_.clone();
  }

  void forget() {
    graph_.reset();
    inputs_.clear();
    gradients_.clear();
    loss_.reset();
  }

  const torch::nn::Module* module_;
  std::vector<at::Tensor> parameters_;
  std::optional<detail::GraphKey> last_{};      // of the last step
  std::optional<detail::GraphKey> recorded_{};  // of what was recorded
  std::int64_t in_a_row_ = 0;
  std::vector<at::Tensor> inputs_{};  // what it reads
  std::vector<at::Tensor> gradients_{};
  at::Tensor loss_{};
  std::optional<CudaGraph> graph_{};
};

}}  // namespace flowmatch
