#pragma once

#include <ATen/ops/full_like.h>

#include <concepts>
#include <utility>

#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/core/types.hpp"

namespace flowmatch { inline namespace v0 {

/// Where a batch's x_0 comes from.
/// 1. `s(batch, rng)` gives a tensor of the shape and dtype of batch.x_1. Any callable of that form
/// is one.
template <class S, class Condition = NoCondition>
concept Source = std::copyable<S> && requires(const S& s, const Batch<Condition>& batch, Rng& rng) {
  { s(batch, rng) } -> std::convertible_to<at::Tensor>;
};

/// x_0 ~ N(0, I): the noise of the blog post's third attempt, and the default.
struct GaussianSource {
  static constexpr bool standard_normal = true;  ///< see `standard_normal_source`

  /// Draws x_0 of the shape of the data in `batch`.
  template <class Condition>
  at::Tensor operator()(const Batch<Condition>& batch, Rng& rng) const {
    return rng.normal(batch.x_1.sizes(), batch.x_1.options()).to(batch.x_1.device());
  }
};

/// A source that a path for standard normal noise takes for such, though the types do not tell it:
/// one that draws normal numbers otherwise, or that is close enough to them.
template <class S>
class AssumeNormal {
 public:
  static constexpr bool standard_normal = true;  ///< see `standard_normal_source`

  /// Draws as `source` does.
  explicit AssumeNormal(S source) : source_(std::move(source)) {}

  /// x_0 of the shape of the data in `batch`.
  template <class Condition>
  requires Source<S, Condition> at::Tensor operator()(const Batch<Condition>& batch,
                                                      Rng& rng) const {
    return source_(batch, rng);
  }

 private:
  S source_;
};

/// Whether a source's x_0, or that of a coupling's source (its `source_type`), is known to be
/// N(0, I): types say so by `static constexpr bool standard_normal = true`.
template <class S>
inline constexpr bool standard_normal_source = [] {
  if constexpr (requires { requires S::standard_normal; }) {
    return true;
  } else if constexpr (requires { typename S::source_type; }) {
    return standard_normal_source<typename S::source_type>;
  } else {
    return false;
  }
}();

/// Every x_0 the same: with the value of white, the blank page of the blog post's second attempt.
class ConstantSource {
 public:
  /// Every element of x_0 is `value`.
  explicit ConstantSource(double value = 0) : value_(value) {}

  /// x_0 of the shape of the data in `batch`.
  template <class Condition>
  at::Tensor operator()(const Batch<Condition>& batch, Rng&) const {
    return at::full_like(batch.x_1, value_);
  }

 private:
  double value_;
};

/// x_0 comes with the data: the batch's own `x_0` (translation from one kind of data to another).
/// Throws DataError where the batch has none.
struct PairedSource {
  /// The batch's own x_0.
  template <class Condition>
  at::Tensor operator()(const Batch<Condition>& batch, Rng&) const {
    if (!batch.x_0.defined()) {
      throw DataError(
          "PairedSource needs batches with an x_0 of their own; fill Batch::x_0, or use "
          "GaussianSource");
    }
    return batch.x_0;
  }
};

}}  // namespace flowmatch
