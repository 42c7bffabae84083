#pragma once

#include <ATen/core/Tensor.h>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/train/precision.hpp"

namespace flowmatch::inline v0 {

/// The loss of one batch: moved to the Rng's device, noisified, given to the model under autocast,
/// compared. A scalar tensor.
template <class Model, class NoisifierT, class ObjectiveT, class C>
at::Tensor batch_loss(Model& model, const NoisifierT& noisifier, const ObjectiveT& objective,
                      const Batch<C>& batch, Rng rng, Precision precision = Precision::float32) {
  const c10::Device device = rng.device();
  const Batch<C> moved{batch.x_1.to(device), condition_traits<C>::to(batch.condition, device),
                       batch.x_0.defined() ? batch.x_0.to(device) : at::Tensor{}};
  const auto noised = noisifier(moved, rng);
  const AutocastScope scope(precision, device);
  return objective(model, noised);
}

}  // namespace flowmatch::inline v0
