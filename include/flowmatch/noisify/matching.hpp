#pragma once

#include <ATen/Functions.h>

#include <utility>

#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/coupling/source.hpp"
#include "flowmatch/noisify/time.hpp"

namespace flowmatch { inline namespace v0 {

/// The noisifier of `DistributionMatchingLoss`: starts x_0 ~ N(0, I) at t = 0 for the generator, as
/// many and with the conditions of a batch, whose data give the shape alone; and noise and a time
/// for each, at which what the generator makes is looked at. `target` is x_1 - x_0, the velocity of
/// the straight path at its start. Throws ShapeError for data of an integer dtype.
template <TimeSampler Time = UniformTime>
class MatchingNoisifier {
 public:
  /// `time`: of the looks; Yin et al. (2024) draw it evenly, but for a fiftieth at either end.
  explicit MatchingNoisifier(Time time = Time{}) : time_(std::move(time)) {}

  /// A training example for the conditions of a batch.
  template <class Condition>
  MatchingNoised<Condition> operator()(const Batch<Condition>& batch, Rng& rng) const {
    check_floating(batch.x_1);
    const at::Tensor x_0 = GaussianSource{}(batch, rng), noise = GaussianSource{}(batch, rng);
    const at::Tensor look =
        time_(batch.x_1.size(0), batch.x_1.options().dtype(time_dtype(batch.x_1)), rng)
            .to(batch.x_1.device());
    return {{x_0, at::zeros_like(look), batch.x_1 - x_0, batch.condition}, noise, look};
  }

 private:
  Time time_;
};

}}  // namespace flowmatch
