#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "flowmatch/metrics/features.hpp"

namespace flowmatch { inline namespace v0 {

/// An estimate and how sure it is.
struct KernelDistance {
  double value = 0;           ///< may lie below 0, as an unbiased estimate of 0 must
  double standard_error = 0;  ///< of `value`, over draws of both sets
};

namespace detail {

/// For each x_i the sum over j of k(x_i, y_j), k(x, y) = (x'y/D + 1)³; without j = i where `same`
/// says that y is x. Float64 [N], on x's device.
inline at::Tensor kernel_row_sums(const at::Tensor& x, const at::Tensor& y, bool same) {
  const auto d = static_cast<double>(x.size(1));
  std::vector<at::Tensor> sums;
  each_block(x.size(0), block_rows, [&](std::int64_t i) {
    const at::Tensor a = feature_block(x, i, block_rows, x.device());
    at::Tensor sum = at::zeros({a.size(0)}, a.options());
    each_block(y.size(0), block_rows, [&](std::int64_t j) {
      const at::Tensor b = feature_block(y, j, block_rows, x.device());
      at::Tensor k = at::mm(a, b.t()).div_(d).add_(1).pow_(3);
      if (same && i == j) k.fill_diagonal_(0);
      sum += k.sum(1);
    });
    sums.push_back(sum);
  });
  return at::cat(sums);
}

}  // namespace detail

/// The kernel distance, squared MMD with k(x, y) = (x'y/D + 1)³, of features x [N, D] and y [M, D]:
/// the mean of k over pairs of different x's, plus that of y's, minus twice that over (x, y). With
/// Inception features of images it is the KID (Bińkowski et al. 2018).
///
/// All pairs are used instead of random subsets: that is the estimate of least variance, unbiased
/// at any N and M, and needs no randomness. Its standard error is the first-order one of
/// U-statistics (Serfling 1980, 5.3), from the spread of each sample's share; where both sets come
/// from one distribution it is too large, by up to √2.
///
/// Time O((N + M)² D), in blocks. Throws ShapeError where they are no features of one dimension,
/// DataError for fewer than two samples a side, for NaN and infinity.
inline KernelDistance kernel_distance(const at::Tensor& x, const at::Tensor& y) {
  check_features(x, "the first features", y, "the second features", 2);
  const auto n = static_cast<double>(x.size(0));
  const auto m = static_cast<double>(y.size(0));
  const at::Tensor xx = detail::kernel_row_sums(x, x, true) / (n - 1);
  const at::Tensor yy = detail::kernel_row_sums(y, y, true) / (m - 1);
  const at::Tensor xy = detail::kernel_row_sums(x, y, false) / m;
  const at::Tensor yx = detail::kernel_row_sums(y, x, false) / n;
  const double value = (xx.mean() + yy.mean().to(x.device()) - 2 * xy.mean()).item<double>();
  const double variance =
      4 / n * at::var(xx - xy).item<double>() + 4 / m * at::var(yy - yx).item<double>();
  return {value, std::sqrt(variance)};
}

}}  // namespace flowmatch
