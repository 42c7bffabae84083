#pragma once

#include <string>
#include <utility>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/coupling/coupling.hpp"
#include "flowmatch/coupling/source.hpp"

namespace flowmatch { inline namespace v0 {

/// Each x_1 with an x_0 of its own from a source, drawn independently: q(x_0, x_1) = p(x_0) q(x_1).
/// Throws ShapeError where the source's x_0 or the condition does not fit the batch.
template <class S = GaussianSource>
class IndependentCoupling {
 public:
  /// Where x_0 comes from.
  using source_type = S;

  IndependentCoupling() = default;
  /// Pairs with draws of this source.
  explicit IndependentCoupling(S source) : source_(std::move(source)) {}

  /// (x_0, x_1) and the condition of a batch.
  template <class Condition>
  requires Source<S, Condition> Coupled<Condition>
  operator()(const Batch<Condition>& batch, Rng& rng) const {
    if (!batch.x_1.defined() || batch.x_1.dim() == 0) {
      throw ShapeError("a batch needs data x_1 [B, …]; got " + shape_text(batch.x_1));
    }
    check_condition_size(batch.condition, batch.x_1.size(0));
    at::Tensor x_0 = source_(batch, rng);
    check_same_shape(x_0, "the source's x_0", batch.x_1, "x_1");
    if (x_0.scalar_type() != batch.x_1.scalar_type()) {
      throw ShapeError(std::string("the source's x_0 is ") + toString(x_0.scalar_type()) +
                       " and x_1 is " + toString(batch.x_1.scalar_type()) +
                       "; make x_0 with batch.x_1.options()");
    }
    return {std::move(x_0), batch.x_1, batch.condition};
  }

 private:
  S source_{};
};

}}  // namespace flowmatch
