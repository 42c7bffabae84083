#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "flowmatch/checkpoint/position.hpp"
#include "flowmatch/core/device_memory.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/core/parallel_for.hpp"
#include "flowmatch/data/batch_source.hpp"
#include "flowmatch/loss/objective.hpp"
#include "flowmatch/parallel/agree.hpp"
#include "flowmatch/parallel/communicator.hpp"
#include "flowmatch/parallel/gradient_buckets.hpp"
#include "flowmatch/train/batch_loss.hpp"
#include "flowmatch/train/options.hpp"
#include "flowmatch/train/parts.hpp"
#include "flowmatch/train/step_graph.hpp"
#include "flowmatch/train/updater.hpp"

namespace flowmatch { inline namespace v0 {

/// What the batches of one optimizer step came to.
struct Gradients {
  at::Tensor loss{};         ///< mean over the batches (and ranks), a scalar without a gradient
  std::int64_t batches = 0;  ///< batches of the step
  std::int64_t samples = 0;  ///< samples in them, on all ranks
};

/// Makes the gradients of steps: adds up those of the next `options.accumulate` batches, as far as
/// the epoch has them, in the parameters; by the updater, which scales losses, and over all ranks.
/// Lives for one call to fit, in which the parameters stay the same. Keeps the addresses of its
/// parts.
template <class Model, class NoisifierT, class ObjectiveT, Communicator Ranks, class C>
class StepGradients {
 public:
  /// Of a trainer's parts. Throws OptionError for `cuda_graph` with several ranks, or with a
  /// condition whose tensors are not known.
  StepGradients(Model& model, const NoisifierT& noisifier, const ObjectiveT& objective,
                const Ranks& ranks, Updater& updater, const TrainOptions& options)
      : model_(model),
        noisifier_(noisifier),
        objective_(objective),
        ranks_(ranks),
        updater_(updater),
        options_(options),
        buckets_(updater.parameters(), ranks) {
    work_in_parts();
    if (!options.cuda_graph) return;
    if (ranks.size() > 1) {
      throw OptionError(
          "cuda_graph records the work of one device, and several ranks sum their gradients in the "
          "midst of it; leave the option out");
    }
    if constexpr (MadeOfTensors<Example>) {
      graph_.emplace(module_of(model), updater.parameters());
    } else {
      throw OptionError(
          "cuda_graph has to know the tensors in a training example; overload for_each_tensor for "
          "your condition's type (core/tensors_in.hpp), or leave the option out");
    }
  }

  /// For the time of a step: where batches go in parts, operations keep to one thread. Else
  /// OpenMP's threads, which spin after each operation, would take the time of those of the parts.
  OneThread threads() const { return OneThread(parts_ && parts_->possible()); }

  /// Those of the step at a position in an epoch of `batches`. Throws what source, noisifier, model
  /// and objective throw, and OptionError for a loss without a gradient.
  template <BatchSource Source>
  Gradients operator()(Source& source, std::int64_t batches, const Position& position) {
    Gradients sum;
    sum.batches = std::min(options_.accumulate, batches - position.batch);
    for (std::int64_t part = 0; part < sum.batches; ++part) {
      const auto batch = next_batch(source, position.batch + part);
      sum.samples += batch.x_1.size(0);
      Rng rng = position.rng(options_.seed, updater_.device(), batches, part);
      const auto mine = rank_part(noisifier_, batch, rng, ranks_);
      if (part + 1 == sum.batches) buckets_.start();
      if (mine.share == 0) continue;
      const auto pass = [&](const Example& example) {
        return backward(example, mine.share, static_cast<double>(sum.batches));
      };
      const at::Tensor loss = with_memory_for(
          "a batch of " + std::to_string(mine.example.x_t.size(0)) +
              " samples; make batches smaller, and set `accumulate` for steps of as many samples",
          [&] { return graph_ ? (*graph_)(mine.example, pass) : pass(mine.example); });
      sum.loss = sum.loss.defined() ? sum.loss + loss : loss;
    }
    buckets_.finish();
    sum.loss = sum_over_ranks(ranks_, updater_.device(), sum.loss);
    return sum;
  }

 private:
  using Example = decltype(rank_part(std::declval<const NoisifierT&>(), std::declval<Batch<C>>(),
                                     std::declval<Rng&>(), std::declval<const Ranks&>())
                               .example);

  static constexpr bool divisible = requires(const Example& e) {
    { slice(e, std::int64_t{}, std::int64_t{}) } -> std::same_as<Example>;
  };

  void work_in_parts() {
    const bool asked = options_.parallel.value_or(false);
    const bool able = updater_.device().is_cpu() && ranks_.size() == 1;
    if (asked && !able) {
      throw OptionError(
          "`parallel` is for the CPU and one rank: a device works on whole batches, and ranks have "
          "their parts already; leave the option out");
    }
    if constexpr (divisible) {
      if (!able || !options_.parallel.value_or(true)) return;
      const bool sure = mean_over_samples<ObjectiveT> && options_.precision == Precision::float32 &&
                        detail::SideBySide<Model>::possible(model_);
      if (asked || sure) parts_.emplace(model_, updater_.parameters(), asked);
    } else if (asked) {
      throw OptionError(
          "`parallel` needs parts of a training example; write slice(example, begin, end) beside "
          "its type (core/slice.hpp), or leave the option out");
    }
  }

  at::Tensor backward(const Example& example, double share, double batches) {
    const auto loss = [&](Model& model, const Example& part) {
      at::Tensor own = example_loss(model, objective_, part, options_.precision);
      if (!own.requires_grad()) {
        throw OptionError(
            "the objective's loss has no gradient; compute it from what the model gives, without "
            "detach(), item() or NoGradGuard");
      }
      if (share != 1) own = own * share;
      return batches != 1 ? own / batches : own;
    };
    if constexpr (divisible) {
      const std::int64_t parts = parts_ ? parts_->of(example, loss) : 1;
      if (parts > 1) {
        return (*parts_)(example, parts, loss,
                         [&](const at::Tensor& each) { return updater_.scaled(each); });
      }
    }
    const at::Tensor whole = loss(model_, example);
    updater_.backward(whole);
    return whole.detach();
  }

  Model& model_;
  const NoisifierT& noisifier_;
  const ObjectiveT& objective_;
  const Ranks& ranks_;
  Updater& updater_;
  const TrainOptions& options_;
  GradientBuckets<Ranks> buckets_;
  std::optional<StepGraph<Example>> graph_{};
  std::optional<detail::Parts<Model, Example>> parts_{};
};

}}  // namespace flowmatch
