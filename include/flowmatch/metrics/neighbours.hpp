#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "flowmatch/metrics/features.hpp"

/// Metrics from nearest neighbours. Distances are computed in float64 between blocks of rows, so
/// memory grows with N + M, not with N M. Squares are |a|² + |b|² - 2a'b, exact for features that
/// are whole numbers (pixels 0 to 255), else good to about 1e-8 |a|.

namespace flowmatch { inline namespace v0 {

namespace detail {

/// Calls f(j, d) for each block of y's rows from j on, with the squared distances d [a's rows, the
/// block's rows].
template <class F>
void each_distances(const at::Tensor& a, const at::Tensor& y, F f) {
  const at::Tensor a_squared = a.square().sum(1, true);
  each_block(y.size(0), block_rows, [&](std::int64_t j) {
    const at::Tensor b = feature_block(y, j, block_rows, a.device());
    f(j, at::addmm(b.square().sum(1), a, b.t(), 1, -2).add_(a_squared).clamp_min_(0));
  });
}

/// For each row of x the squared distance to its k-th nearest other row: float64 [N], on x's
/// device.
inline at::Tensor squared_radii(const at::Tensor& x, std::int64_t k) {
  std::vector<at::Tensor> radii;
  each_block(x.size(0), block_rows, [&](std::int64_t i) {
    const at::Tensor a = feature_block(x, i, block_rows, x.device());
    at::Tensor nearest =
        at::full({a.size(0), k}, std::numeric_limits<double>::infinity(), a.options());
    each_distances(a, x, [&](std::int64_t j, at::Tensor d) {
      if (i == j) d.fill_diagonal_(std::numeric_limits<double>::infinity());
      nearest = std::get<0>(at::cat({nearest, d}, 1).topk(k, 1, /*largest=*/false));
    });
    radii.push_back(std::get<0>(nearest.max(1)));
  });
  return at::cat(radii);
}

inline void check_neighbours(const at::Tensor& real, const at::Tensor& fake, std::int64_t k) {
  if (k < 1) {
    throw OptionError("neighbours are counted up to k = " + std::to_string(k) +
                      "; choose at least 1");
  }
  check_features(real, "the real features", fake, "the generated features");
}

}  // namespace detail

/// Nearest rows, one for each row of the query.
struct Nearest {
  at::Tensor distance;  ///< float64 [N]
  at::Tensor index;     ///< int64 [N], into the points
};

/// The nearest of `points` [M, D] to each row of `query` [N, D], by Euclidean distance, on the
/// query's device. Throws ShapeError where they are no features of one dimension, DataError for
/// none, for NaN and infinity.
inline Nearest nearest(const at::Tensor& query, const at::Tensor& points) {
  check_features(query, "the query", points, "the points");
  std::vector<at::Tensor> distances;
  std::vector<at::Tensor> indices;
  detail::each_block(query.size(0), detail::block_rows, [&](std::int64_t i) {
    const at::Tensor a = feature_block(query, i, detail::block_rows, query.device());
    at::Tensor best = at::full({a.size(0)}, std::numeric_limits<double>::infinity(), a.options());
    at::Tensor index = at::zeros({a.size(0)}, a.options().dtype(at::kLong));
    detail::each_distances(a, points, [&](std::int64_t j, const at::Tensor& d) {
      const auto [least, at] = d.min(1);
      index = at::where(least < best, at + j, index);
      best = at::minimum(best, least);
    });
    distances.push_back(best.sqrt());
    indices.push_back(index);
  });
  return {at::cat(distances), at::cat(indices)};
}

/// Both in [0, 1].
struct PrecisionRecall {
  double precision = 0;  ///< the share of what is generated that is like something real
  double recall = 0;     ///< the share of what is real that is like something generated
};

/// Improved precision and recall (Kynkäänniemi et al. 2019, eq. 1 and 2) of generated features
/// `fake` [M, D] against real ones [N, D]. A point is like a set where it lies in the ball of one
/// of the set's points, which reaches to its k-th nearest other point of the set.
///
/// Both depend on N and M: give sets of one size, and the figures of real data beside them. Throws
/// ShapeError where they are no features of one dimension, OptionError for k < 1, DataError for
/// sets of k points or fewer, for NaN and infinity.
inline PrecisionRecall precision_recall(const at::Tensor& real, const at::Tensor& fake,
                                        std::int64_t k = 3) {
  detail::check_neighbours(real, fake, k);
  check_features(real, "the real features", k + 1);
  check_features(fake, "the generated features", k + 1);
  // The share of x's rows that lie in a ball of y's.
  const auto covered = [&](const at::Tensor& x, const at::Tensor& y) {
    const at::Tensor radii = detail::squared_radii(y, k).to(x.device());
    std::int64_t count = 0;
    detail::each_block(x.size(0), detail::block_rows, [&](std::int64_t i) {
      const at::Tensor a = feature_block(x, i, detail::block_rows, x.device());
      at::Tensor inside = at::zeros({a.size(0)}, a.options().dtype(at::kBool));
      detail::each_distances(a, y, [&](std::int64_t j, const at::Tensor& d) {
        inside |= (d <= radii.slice(0, j, j + d.size(1))).any(1);
      });
      count += inside.sum().item<std::int64_t>();
    });
    return static_cast<double>(count) / static_cast<double>(x.size(0));
  };
  return {covered(fake, real), covered(real, fake)};
}

/// What `density_coverage` gives.
struct DensityCoverage {
  double density = 0;   ///< about 1 where both are alike; above where samples crowd real points
  double coverage = 0;  ///< the share of real balls that hold a sample, 0 to 1
};

/// Density and coverage (Naeem et al. 2020, eq. 3 and 5) of generated features `fake` [M, D]
/// against real ones [N, D]: how many real points' balls a sample lies in, divided by k, and how
/// many of the balls hold one. A ball reaches to the k-th nearest other real point, so outliers
/// among the samples do no harm. For real data against as much real data the expected coverage is
/// about 1 - 2^-k.
///
/// Throws ShapeError where they are no features of one dimension, OptionError for k < 1, DataError
/// for k real points or fewer, for NaN and infinity.
inline DensityCoverage density_coverage(const at::Tensor& real, const at::Tensor& fake,
                                        std::int64_t k = 5) {
  detail::check_neighbours(real, fake, k);
  check_features(real, "the real features", k + 1);
  const at::Tensor radii = detail::squared_radii(real, k);
  std::int64_t in_balls = 0;
  std::int64_t covered = 0;
  detail::each_block(real.size(0), detail::block_rows, [&](std::int64_t i) {
    const at::Tensor a = feature_block(real, i, detail::block_rows, real.device());
    const at::Tensor radius = radii.slice(0, i, i + a.size(0)).unsqueeze(1);
    at::Tensor held = at::zeros({a.size(0)}, a.options().dtype(at::kLong));
    detail::each_distances(
        a, fake, [&](std::int64_t, const at::Tensor& d) { held += (d <= radius).sum(1); });
    in_balls += held.sum().item<std::int64_t>();
    covered += (held > 0).sum().item<std::int64_t>();
  });
  return {static_cast<double>(in_balls) / static_cast<double>(k * fake.size(0)),
          static_cast<double>(covered) / static_cast<double>(real.size(0))};
}

}}  // namespace flowmatch
