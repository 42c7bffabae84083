#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include <concepts>
#include <utility>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/optim/precision.hpp"
#include "flowmatch/parallel/communicator.hpp"
#include "flowmatch/parallel/shard.hpp"

namespace flowmatch { inline namespace v0 {

/// An objective that a model can be trained by, on what a noisifier makes of batches with
/// conditions of type C.
template <class ObjectiveT, class Model, class NoisifierT, class C>
concept TrainsOn = requires(const ObjectiveT& objective, Model& model, const NoisifierT& noisifier,
                            const Batch<C>& batch, Rng& rng) {
  { objective(model, noisifier(batch, rng)) } -> std::convertible_to<at::Tensor>;
};

/// A rank's part of a training example.
template <class Example>
struct RankPart {
  Example example;   ///< what of it the rank's model is given
  double share = 1;  ///< of its samples; 0 where there are more ranks than samples
};

/// Moves a batch to the Rng's device, noisifies it whole and takes this rank's part of it (`shard`)
/// among the `ranks`.
template <class NoisifierT, class C, Communicator Ranks>
auto rank_part(const NoisifierT& noisifier, const Batch<C>& batch, Rng& rng, const Ranks& ranks) {
  auto whole = noisifier(to_device(batch, rng.device()), rng);
  using Part = RankPart<decltype(whole)>;
  if constexpr (std::same_as<Ranks, SingleProcess>) {
    return Part{std::move(whole)};
  } else {
    const auto all = static_cast<double>(whole.x_t.size(0));
    auto mine = shard(whole, ranks.rank(), ranks.size());
    const auto samples = static_cast<double>(mine.x_t.size(0));
    return Part{std::move(mine), all > 0 ? samples / all : 1};
  }
}

/// The objective's loss of a training example under autocast, a scalar tensor. Throws ShapeError
/// where the objective gives more than one number.
template <class Model, class ObjectiveT, class Example>
at::Tensor example_loss(Model& model, const ObjectiveT& objective, const Example& example,
                        Precision precision) {
  const AutocastScope scope(precision, example.x_t.device());
  at::Tensor loss = objective(model, example);
  if (!loss.defined() || loss.numel() != 1) {
    throw ShapeError("the objective gave a loss of shape " + shape_text(loss) +
                     "; give one number, the mean over the batch's samples");
  }
  return loss.dim() > 0 ? loss.reshape({}) : loss;
}

/// What a rank has to do with the loss of one batch: the mean over its part, weighted by its share
/// of the samples, so that the ranks' losses add up to the mean over the batch. A scalar tensor;
/// undefined where the batch has no sample for this rank. Throws as `example_loss` does.
template <class Model, class NoisifierT, class ObjectiveT, class C,
          Communicator Ranks = SingleProcess>
at::Tensor batch_loss(Model& model, const NoisifierT& noisifier, const ObjectiveT& objective,
                      const Batch<C>& batch, Rng rng, Precision precision = Precision::float32,
                      const Ranks& ranks = Ranks()) {
  const auto part = rank_part(noisifier, batch, rng, ranks);
  if (part.share == 0) return {};
  const at::Tensor loss = example_loss(model, objective, part.example, precision);
  return part.share == 1 ? loss : loss * part.share;
}

}}  // namespace flowmatch
