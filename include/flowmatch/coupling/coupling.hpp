#pragma once

#include <concepts>

#include "flowmatch/core/random.hpp"
#include "flowmatch/core/types.hpp"

namespace flowmatch { inline namespace v0 {

/// Decides which x_0 belongs to which x_1.
/// 1. `c(batch, rng)` gives a Coupled with the batch's condition type; row i of its x_0, x_1 and
/// condition belong
///    together.
template <class C, class Condition = NoCondition>
concept Coupling = std::copyable<C> &&
    requires(const C& c, const Batch<Condition>& batch, Rng& rng) {
  { c(batch, rng) } -> std::same_as<Coupled<Condition>>;
};

}}  // namespace flowmatch
