#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <concepts>
#include <string>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/path/path.hpp"

namespace flowmatch { inline namespace v0 {

/// What the network is to predict.
/// 1. `t(path, sample)` gives a tensor of x_t's shape, for a path and a PathSample of it.
template <class T, class Path>
concept Target = std::copyable<T> &&
    requires(const T& t, const Path& path, const PathSample& sample) {
  { t(path, sample) } -> std::convertible_to<at::Tensor>;
};

/// The velocity dx_t: x_1 - x_0 on the straight path.
struct VelocityTarget {
  /// dx_t of a `sample` of the path [B, …].
  template <class Path>
  at::Tensor operator()(const Path&, const PathSample& sample) const {
    return sample.dx_t;
  }
};

/// The data x_1. Sample such a network through `VelocityFromX1`.
struct X1Target {
  /// x_1 of a `sample` of the path [B, …].
  template <class Path>
  at::Tensor operator()(const Path&, const PathSample& sample) const {
    return sample.x_1;
  }
};

/// The noise epsilon = x_0. Sample such a network through `VelocityFromEpsilon`. NoisyPath and
/// BridgePath have another epsilon beside x_0, and no such conversion.
struct EpsilonTarget {
  /// x_0 of a `sample` of the path [B, …].
  template <class Path>
  requires(!requires(const Path& path, const at::Tensor& x, Rng& rng) {
    { path.sample(x, x, x, rng) } -> std::derived_from<NoisyPathSample>;
  }) at::Tensor
  operator()(const Path&, const PathSample& sample) const {
    return sample.x_0;
  }
};

/// The change over a step, x_{t+h} - x_t: the blog post's second attempt (h = 0.01), from which a
/// network learns little, because the target is about h in size. Kept to show it. Needs a path that
/// is defined a little beyond t = 1. Throws OptionError unless 0 < h <= 1.
class FiniteDifferenceTarget {
 public:
  /// Over a step of h.
  explicit FiniteDifferenceTarget(double h = 0.01) : h_(h) {
    if (!(h > 0 && h <= 1)) {
      throw OptionError("a finite difference over h = " + number_text(h) +
                        "; choose a step in (0, 1]");
    }
  }

  /// The step h.
  double step() const noexcept { return h_; }

  /// x_{t+h} - x_t of a `sample` of the path [B, …].
  template <ProbPath Path>
  at::Tensor operator()(const Path& path, const PathSample& sample) const {
    // In half precision the difference would be one of roundings.
    const at::ScalarType exact = state_dtype(sample.x_1);
    const at::Tensor x_0 = sample.x_0.to(exact), x_1 = sample.x_1.to(exact);
    const at::Tensor later = path.sample(x_0, x_1, sample.t + h_).x_t;
    return (later - path.sample(x_0, x_1, sample.t).x_t).to(sample.x_1.scalar_type());
  }

 private:
  double h_;
};

}}  // namespace flowmatch
