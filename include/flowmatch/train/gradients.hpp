#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>

#include "flowmatch/checkpoint/position.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/data/batch_source.hpp"
#include "flowmatch/parallel/agree.hpp"
#include "flowmatch/parallel/communicator.hpp"
#include "flowmatch/parallel/gradient_buckets.hpp"
#include "flowmatch/train/batch_loss.hpp"
#include "flowmatch/train/options.hpp"
#include "flowmatch/train/updater.hpp"

namespace flowmatch { inline namespace v0 {

/// What the batches of one optimizer step came to.
struct Gradients {
  at::Tensor loss{};         ///< mean over the batches (and ranks), a scalar without a gradient
  std::int64_t batches = 0;  ///< batches of the step
  std::int64_t samples = 0;  ///< samples in them, on all ranks
};

/// Adds up the gradients of the next `options.accumulate` batches, as far as the epoch of `batches`
/// has them, in the parameters: by the `updater`, which scales losses, and over all ranks by the
/// `buckets`. Throws what source, noisifier, model and objective throw, and OptionError for a loss
/// without a gradient.
template <class Model, class NoisifierT, class ObjectiveT, Communicator C, BatchSource Source>
Gradients step_gradients(Model& model, const NoisifierT& noisifier, const ObjectiveT& objective,
                         const C& communicator, Source& source, std::int64_t batches,
                         GradientBuckets<C>& buckets, Updater& updater, const TrainOptions& options,
                         const Position& position) {
  Gradients sum;
  sum.batches = std::min(options.accumulate, batches - position.batch);
  for (std::int64_t part = 0; part < sum.batches; ++part) {
    const auto batch = next_batch(source, position.batch + part);
    sum.samples += batch.x_1.size(0);
    const at::Tensor mine = batch_loss(model, noisifier, objective, batch,
                                       position.rng(options.seed, updater.device(), batches, part),
                                       options.precision, communicator);
    if (part + 1 == sum.batches) buckets.start();
    if (!mine.defined()) continue;  // fewer samples than ranks
    if (!mine.requires_grad()) {
      throw OptionError(
          "the objective's loss has no gradient; compute it from what the model gives, without "
          "detach(), item() or NoGradGuard");
    }
    const at::Tensor loss = mine / static_cast<double>(sum.batches);
    updater.backward(loss);
    sum.loss = sum.loss.defined() ? sum.loss + loss.detach() : loss.detach();
  }
  buckets.finish();
  sum.loss = sum_over_ranks(communicator, updater.device(), sum.loss);
  return sum;
}

}}  // namespace flowmatch
