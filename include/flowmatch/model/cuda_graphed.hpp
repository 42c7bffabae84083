#pragma once

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "flowmatch/core/cuda_graph.hpp"
#include "flowmatch/core/tensors_in.hpp"
#include "flowmatch/model/graph_key.hpp"
#include "flowmatch/model/velocity_model.hpp"

namespace flowmatch { inline namespace v0 {

/// A model whose evaluations on a CUDA device are recorded as CUDA graphs, one for each shape of
/// inputs: a small batch then takes as long as the device computes, and not as long as the program
/// needs to ask for each of some hundred operations. Wrap it around what is sampled from,
/// `Sampler(CudaGraphed(net), …)`, guidance and other adapters included.
///
/// The second call of a kind records, later ones replay. It is recorded anew where the weights lie
/// elsewhere or a mode (evaluation, autocast) changes; new values in the same weights are seen. On
/// other devices, and where gradients are on (GradMode), the model is called as it is. Values that
/// the model's code takes from the CPU stay those of the recording: what a model reads from a
/// variable, or branches on, must not change.
///
/// Copies share what is recorded, of which the `most_graphs` last used are kept, each with the
/// memory of an evaluation. Throws OptionError for a model that cannot be recorded (CudaGraph), and
/// in programs built without CUDA's headers.
template <class Model>
class CudaGraphed {
 public:
  /// How many shapes are kept.
  static constexpr std::size_t most_graphs = 8;

  /// Of a model, taken as the Sampler takes it.
  explicit CudaGraphed(Model model) : model_(std::move(model)) {}

  /// The model inside.
  Model& model() noexcept { return model_; }

  /// v(x, t, condition), as the model gives it.
  template <class C = NoCondition>
  requires VelocityModel<Model, C> at::Tensor operator()(const at::Tensor& x, const at::Tensor& t,
                                                         const C& condition = C{}) {
    static_assert(MadeOfTensors<C>,
                  "flowmatch: CudaGraphed has to know the tensors in a condition; overload "
                  "for_each_tensor for its type (core/tensors_in.hpp)");
    if (!x.is_cuda() || at::GradMode::is_enabled()) return call_model(model_, x, t, condition);
    auto inputs = std::make_tuple(x, t, condition);
    detail::GraphKey key(x.device());
    key.add_input(inputs);
    key.add_model(model_);

    const std::lock_guard lock(shared_->mutex);
    auto& all = shared_->recordings;
    auto found = all.begin();
    while (found != all.end() && !(found->key == key)) ++found;
    if (found == all.end()) {  // libraries set themselves up in it
      all.push_front({std::move(key)});
      if (all.size() > most_graphs) all.pop_back();
      return call_model(model_, x, t, condition);
    }
    all.splice(all.begin(), all, found);
    if (!found->graph) record(*found, inputs);
    std::vector<at::Tensor> values;
    for_each_tensor(inputs, [&](const at::Tensor& each) { values.push_back(each); });
    at::_foreach_copy_(found->inputs, values);
    found->graph->replay();
    return found->output.clone();
  }

 private:
  struct Recording {
    detail::GraphKey key;
    std::vector<at::Tensor> inputs{};
    at::Tensor output{};
    std::optional<CudaGraph> graph{};
  };
  struct Shared {
    std::mutex mutex{};
    std::list<Recording> recordings{};  // the last used first
  };

  template <class C>
  void record(Recording& recording, std::tuple<at::Tensor, at::Tensor, C> inputs) {
    {
      const c10::InferenceMode off(false);  // so that they can be written to in any mode
      for_each_tensor(inputs, [&](at::Tensor& each) {
        each = each.clone();
        recording.inputs.push_back(each);
      });
    }
    const at::Tensor &x = std::get<0>(inputs), &t = std::get<1>(inputs);
    const C& condition = std::get<2>(inputs);
    try {
      recording.graph.emplace(x.device(),
                              [&] { recording.output = call_model(model_, x, t, condition); });
    } catch (...) {
      recording.inputs.clear();
      throw;
    }
  }

  Model model_;
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};
template <class M>
CudaGraphed(M&&) -> CudaGraphed<model_storage_t<M>>;

}}  // namespace flowmatch
