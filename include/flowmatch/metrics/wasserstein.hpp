#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "flowmatch/core/assignment.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/metrics/features.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

inline void check_order(int p) {
  if (p != 1 && p != 2) {
    throw OptionError("a Wasserstein distance of order " + std::to_string(p) + "; choose 1 or 2");
  }
}

}  // namespace detail

/// The Wasserstein distance W_p of two equally large sets of points x, y [N, D],
/// (min over pairings π of 1/N Σ |x_i - y_π(i)|^p)^(1/p) with Euclidean |·|, p = 1 or 2. Exact, by
/// assignment: O(N³) time and N² numbers, for some thousand points at most.
///
/// Throws ShapeError where they are no features of one shape, OptionError for another p, DataError
/// for no points, for NaN and infinity.
inline double wasserstein(const at::Tensor& x, const at::Tensor& y, int p = 2) {
  detail::check_order(p);
  check_features(x, "the first points", y, "the second points");
  const std::int64_t n = x.size(0);
  if (y.size(0) != n) {
    throw ShapeError("there are " + std::to_string(n) + " and " + std::to_string(y.size(0)) +
                     " points; give as many of both, or take sliced_wasserstein");
  }
  // Without the shortcut by products, which would lose the small distances.
  constexpr std::int64_t direct = 2;
  at::Tensor distance =
      at::cdist(feature_block(x, 0, n, x.device()), feature_block(y, 0, n, x.device()), 2, direct);
  if (p == 2) distance = distance.square();
  const at::Tensor cost = distance.cpu().contiguous();
  const auto* const costs = cost.const_data_ptr<double>();
  const std::vector<std::int64_t> column_of = assign(costs, n, n);
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    sum += costs[i * n + column_of[static_cast<std::size_t>(i)]];
  }
  const double mean = sum / static_cast<double>(n);
  return p == 2 ? std::sqrt(mean) : mean;
}

/// Options of `sliced_wasserstein`.
struct SlicedWassersteinOptions {
  int p = 2;                       ///< order: 1 or 2
  std::int64_t projections = 256;  ///< random directions; the error falls with their root
};

/// The sliced Wasserstein distance of points x [N, D] and y [M, D]: the mean over random directions
/// θ on the unit sphere of W_p^p of the projections x θ and y θ, to the power 1/p (Bonneel et al.
/// 2015). On a line W_p is a distance of quantiles, so N and M may differ and 100,000 points are
/// no trouble. It is at most W_p, and W_p itself for D = 1.
///
/// Throws ShapeError where they are no features of one dimension, OptionError for options out of
/// range, DataError for no points, for NaN and infinity.
inline double sliced_wasserstein(const at::Tensor& x, const at::Tensor& y, Rng& rng,
                                 SlicedWassersteinOptions options = {}) {
  detail::check_order(options.p);
  if (options.projections < 1) {
    throw OptionError(std::to_string(options.projections) +
                      " projections for a sliced distance; choose at least 1");
  }
  check_features(x, "the first points", y, "the second points");
  const std::int64_t n = x.size(0);
  const std::int64_t m = y.size(0);
  const c10::Device device = x.device();

  // Quantile functions are steps, of width 1/n and 1/m. In units of 1/(nm): where either steps, and
  // which of the sorted points each has on the way there.
  const auto whole = at::TensorOptions(at::kLong).device(device);
  const at::Tensor ends = std::get<0>(at::_unique(
      at::cat({at::arange(1, n + 1, whole) * m, at::arange(1, m + 1, whole) * n}), true));
  const at::Tensor begins = at::cat({at::zeros({1}, whole), ends.slice(0, 0, -1)});
  const at::Tensor width =
      (ends - begins).to(at::kDouble) / static_cast<double>(n) / static_cast<double>(m);
  const at::Tensor in_x = begins.div(m, "floor");
  const at::Tensor in_y = begins.div(n, "floor");

  const auto projected = [&](const at::Tensor& points, const at::Tensor& directions) {
    std::vector<at::Tensor> parts;
    detail::each_block(points.size(0), detail::block_rows, [&](std::int64_t i) {
      parts.push_back(at::mm(feature_block(points, i, detail::block_rows, device), directions));
    });
    return std::get<0>(at::cat(parts).sort(0));
  };
  double sum = 0;
  detail::each_block(options.projections, 64, [&](std::int64_t first) {
    const std::int64_t count = std::min<std::int64_t>(64, options.projections - first);
    at::Tensor directions = rng.normal({x.size(1), count}, at::kDouble).to(device);
    directions = directions / directions.norm(2, 0);
    const at::Tensor gap = projected(x, directions).index_select(0, in_x) -
                           projected(y, directions).index_select(0, in_y);
    const at::Tensor power = options.p == 2 ? gap.square() : gap.abs();
    sum += at::mv(power.t(), width).sum().item<double>();
  });
  const double mean = sum / static_cast<double>(options.projections);
  return options.p == 2 ? std::sqrt(mean) : mean;
}

}}  // namespace flowmatch
