#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>

#include <concepts>
#include <cstdint>

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

/// What this rank has to do with the loss of one batch: the batch is moved to the Rng's device and
/// noisified whole; the rank's part of it (`shard`) is given to the model under autocast and
/// compared; and the mean over that part is weighted by its share of the samples, so that the
/// ranks' losses add up to the mean over the batch. A scalar tensor; undefined where the batch has
/// no sample for this rank. Throws ShapeError where the objective gives more than one number.
template <class Model, class NoisifierT, class ObjectiveT, class C,
          Communicator Ranks = SingleProcess>
at::Tensor batch_loss(Model& model, const NoisifierT& noisifier, const ObjectiveT& objective,
                      const Batch<C>& batch, Rng rng, Precision precision = Precision::float32,
                      const Ranks& ranks = Ranks()) {
  const c10::Device device = rng.device();
  const auto whole = noisifier(to_device(batch, device), rng);
  const auto mine = [&] {
    if constexpr (std::same_as<Ranks, SingleProcess>) {
      return whole;
    } else {
      return shard(whole, ranks.rank(), ranks.size());
    }
  }();
  const std::int64_t all = whole.x_t.size(0);
  const std::int64_t part = mine.x_t.size(0);
  if (part == 0 && all > 0) return {};
  const AutocastScope scope(precision, device);
  at::Tensor loss = objective(model, mine);
  if (!loss.defined() || loss.numel() != 1) {
    throw ShapeError("the objective gave a loss of shape " + shape_text(loss) +
                     "; give one number, the mean over the batch's samples");
  }
  if (loss.dim() > 0) loss = loss.reshape({});
  return part == all ? loss : loss * (static_cast<double>(part) / static_cast<double>(all));
}

}}  // namespace flowmatch
