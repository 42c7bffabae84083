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
  using condition_type = Condition;
  at::Tensor x_1;
  Condition condition{};
  at::Tensor x_0{};
};

/// What a coupling yields: who is paired with whom, x_0 and x_1 both [B, …].
template <class Condition = NoCondition>
struct Coupled {
  using condition_type = Condition;
  at::Tensor x_0;
  at::Tensor x_1;
  Condition condition{};
};

/// What a path yields at time t [B]: the point x_t and its time derivative dx_t, both [B, …].
struct PathSample {
  at::Tensor x_0;
  at::Tensor x_1;
  at::Tensor t;
  at::Tensor x_t;
  at::Tensor dx_t;
};

/// What a noisifier yields: the model's inputs x_t [B, …], t [B] and the condition, and what it
/// should say there.
template <class Condition = NoCondition>
struct Noised {
  using condition_type = Condition;
  at::Tensor x_t;
  at::Tensor t;
  at::Tensor target;
  Condition condition{};
};

}}  // namespace flowmatch
