#pragma once

#include <ATen/core/Tensor.h>

#include "flowmatch/core/named_tensors.hpp"  // IWYU pragma: export

namespace flowmatch { inline namespace v0 {

/// The condition of an unconditional model.
struct NoCondition {};

/// What a data source yields: data x_1 [B, …] and one condition a sample (any type with
/// `condition_traits`). `x_0` is left undefined except by sources that know each sample's start
/// themselves (see `PairedSource`).
template <class Condition = NoCondition>
struct Batch {
  /// The condition of a sample.
  using condition_type = Condition;
  at::Tensor x_1;         ///< data [B, …]
  Condition condition{};  ///< one entry a sample
  at::Tensor x_0{};       ///< each start, where the source knows it
};

/// What a coupling yields: who is paired with whom, x_0 and x_1 both [B, …].
template <class Condition = NoCondition>
struct Coupled {
  /// The condition of a sample.
  using condition_type = Condition;
  at::Tensor x_0;         ///< source [B, …]
  at::Tensor x_1;         ///< data [B, …]
  Condition condition{};  ///< the batch's
};

/// What a path yields at time t [B]: the point x_t and its time derivative dx_t, both [B, …].
struct PathSample {
  at::Tensor x_0;   ///< as it was given [B, …]
  at::Tensor x_1;   ///< as it was given [B, …]
  at::Tensor t;     ///< as it was given [B]
  at::Tensor x_t;   ///< the point at t [B, …]
  at::Tensor dx_t;  ///< its time derivative [B, …]
};

/// What a path that adds noise to its mean yields: x_t = mean_t + sigma_t epsilon with epsilon ~
/// N(0, I) of its own, and as dx_t the velocity at x_t that carries the marginals given (x_0, x_1).
struct NoisyPathSample : PathSample {
  at::Tensor epsilon;  ///< the noise [B, …]
  at::Tensor sigma_t;  ///< its standard deviation [B], of t's dtype
};

/// What a noisifier yields: the model's inputs x_t [B, …], t [B] and the condition, and what it
/// should say there.
template <class Condition = NoCondition>
struct Noised {
  /// The condition of a sample.
  using condition_type = Condition;
  at::Tensor x_t;         ///< where the model is asked [B, …]
  at::Tensor t;           ///< when [B]
  at::Tensor target;      ///< what it should say [B, …]
  Condition condition{};  ///< the condition that it is given
};

/// A training example of a path whose samples hold more than a PathSample, with that sample, for
/// objectives that look at it.
template <class Sample, class Condition = NoCondition>
struct NoisedSample : Noised<Condition> {
  Sample sample;  ///< what the path gave
};

/// A training example with a second time r [B], not before t: that of a model of average
/// velocities.
template <class Condition = NoCondition>
struct TwoTimeNoised : Noised<Condition> {
  at::Tensor r;        ///< where the average ends [B]
  at::Tensor apart{};  ///< which samples have r after t, int64 [K]; undefined: r and t tell
};

/// A training example of a generator, which is to make a sample of the noise x_t, at t = 0; and
/// with what that sample is mixed, and when, to be looked at by flows.
template <class Condition = NoCondition>
struct MatchingNoised : Noised<Condition> {
  at::Tensor noise;  ///< [B, …]
  at::Tensor look;   ///< the time of it [B]
};

}}  // namespace flowmatch
