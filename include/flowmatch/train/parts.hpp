#pragma once

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/utils/grad_layout_contract.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "flowmatch/core/parallel_for.hpp"
#include "flowmatch/core/slice.hpp"
#include "flowmatch/model/side_by_side.hpp"
#include "flowmatch/parallel/shard.hpp"

namespace flowmatch { inline namespace v0 { namespace detail {

/// The gradients of a batch as the sum of those of its parts, each made by a thread of its own
/// instead of all threads at each operation. They are summed in the order of the parts, so that the
/// same parts give the same bits, in whichever order they are done.
template <class Model, class Example>
class Parts {
 public:
  /// Of a model and what of it is trained. Without `promised` only what is sure to give the same
  /// in parts is done in parts.
  Parts(Model& model, std::vector<at::Tensor> parameters, bool promised)
      : model_(model),
        parameters_(std::move(parameters)),
        copies_(!promised),
        team_(at::get_num_threads()) {
    for (const at::Tensor& p : parameters_) weights_ += p.numel();
    if (promised) means_the_same_ = true;
  }

  /// Whether there may be parts: until an example has shown that they would not mean the same.
  bool possible() const { return means_the_same_.value_or(true); }

  /// How many parts an example is worth. A dense layer takes six operations a weight and sample.
  template <class Loss>
  std::int64_t of(const Example& example, const Loss& loss) {
    const std::int64_t samples = example.x_t.size(0);
    const std::int64_t parts =
        parts_worth(team_.size(), samples, 6 * weights_ * samples, 8'000'000);
    if (parts == 1) return 1;
    if (!means_the_same_) {
      SideBySide<Model> copy(model_);
      means_the_same_ = answers_by_sample(
          samples,
          [&](std::int64_t begin, std::int64_t end) {
            return loss(copy(model_), slice(example, begin, end));
          },
          [](const at::Tensor& a, const at::Tensor& b) { return (a + b) / 2; });
      // The step began with one, for parts; now it is as all steps after it.
      if (!possible()) at::set_num_threads(static_cast<int>(team_.size()));
    }
    return *means_the_same_ ? parts : 1;
  }

  /// Adds the gradients of an example in so many parts to the parameters'; `loss(model, part)`
  /// gives a part's scalar loss, `scaled` what a scaler makes of a number. Returns the example's
  /// loss.
  template <class Loss, class Scaled>
  at::Tensor operator()(const Example& example, std::int64_t parts, const Loss& loss,
                        const Scaled& scaled) {
    const auto samples = static_cast<double>(example.x_t.size(0));
    std::vector<Part> done(static_cast<std::size_t>(parts));
    std::vector<at::Tensor> trained;  // hooks may freeze some
    for (const at::Tensor& p : parameters_) {
      if (p.requires_grad()) trained.push_back(p);
    }
    // A copy for each part but the first, of the model as it is now.
    std::vector<SideBySide<Model>> models;
    if (copies_) {
      for (std::int64_t i = 1; i < parts; ++i) models.emplace_back(model_);
    }
    const auto work = [&](std::int64_t i) {
      Part& part = done[static_cast<std::size_t>(i)];
      const Example own = shard(example, i, parts);
      const double share = static_cast<double>(own.x_t.size(0)) / samples;
      const bool copied = copies_ && i > 0;
      const at::Tensor mean =
          loss(copied ? models[static_cast<std::size_t>(i - 1)](model_) : model_, own);
      part.gradients = torch::autograd::grad({mean}, trained, {scaled(at::full_like(mean, share))},
                                             /*retain_graph=*/false, /*create_graph=*/false,
                                             /*allow_unused=*/true);
      part.loss = mean.detach() * share;
    };
    team_(parts, work);
    return sum(done, trained);
  }

 private:
  struct Part {
    at::Tensor loss;
    std::vector<at::Tensor> gradients;
  };

  static at::Tensor sum(std::vector<Part>& parts, const std::vector<at::Tensor>& trained) {
    const at::NoGradGuard no_grad;
    at::Tensor loss = parts.front().loss;
    for (std::size_t i = 1; i < parts.size(); ++i) loss = loss + parts[i].loss;
    for (std::size_t p = 0; p < trained.size(); ++p) {
      at::Tensor all = trained[p].grad();
      for (Part& part : parts) {
        at::Tensor& own = part.gradients[p];
        if (!own.defined()) continue;
        if (all.defined()) {
          all.add_(own);
        } else {
          const bool alone = own.use_count() == 1 && own.storage().use_count() == 1;
          all = alone && torch::autograd::utils::obeys_layout_contract(own, trained[p])
                    ? std::move(own)
                    : torch::autograd::utils::clone_obey_contract(own, trained[p]);
        }
      }
      trained[p].mutable_grad() = all;
    }
    return loss;
  }

  Model& model_;
  std::vector<at::Tensor> parameters_;
  bool copies_;
  ThreadTeam team_;
  std::optional<bool> means_the_same_{};  // in parts; as was found at the first example
  std::int64_t weights_ = 0;
};

}}}  // namespace flowmatch::detail
