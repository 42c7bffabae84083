#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "flowmatch/core/expand.hpp"
#include "flowmatch/metrics/features.hpp"

namespace flowmatch { inline namespace v0 {

/// Mean and covariance of features that come in batches, in float64: as many samples as one likes
/// in memory for D² numbers. Sums of squares are kept about the mean (Chan, Golub & LeVeque 1983),
/// so that they lose nothing where the mean is large.
class FeatureMoments {
 public:
  FeatureMoments() = default;
  /// Of all of x [N, D].
  explicit FeatureMoments(const at::Tensor& x) { add(x); }

  /// Takes in x [N, D], of any real dtype and device; N may be 0. Throws ShapeError for another
  /// dimension than before, DataError for NaN or infinity; nothing is taken in then.
  void add(const at::Tensor& x) {
    check_features(x, "features", 0);
    FeatureMoments added;
    detail::each_block(x.size(0), detail::block_rows, [&](std::int64_t first) {
      const at::Tensor block = feature_block(x, first, detail::block_rows, x.device());
      FeatureMoments part;
      part.count_ = block.size(0);
      const at::Tensor mean = block.mean(0);
      const at::Tensor centred = block - mean;
      part.mean_ = mean.cpu();
      part.scatter_ = at::mm(centred.t(), centred).cpu();
      added.merge(part);
    });
    merge(added);
  }

  /// Takes in what another has seen, as if its samples had been added here. Throws ShapeError for
  /// another dimension.
  void merge(const FeatureMoments& other) {
    if (other.count_ == 0) return;
    if (count_ == 0) {
      *this = other;
      return;
    }
    if (other.dimension() != dimension()) {
      throw ShapeError("features of dimension " + std::to_string(other.dimension()) +
                       " for moments of dimension " + std::to_string(dimension()) +
                       "; all must come from the same features");
    }
    const auto a = static_cast<double>(count_);
    const auto b = static_cast<double>(other.count_);
    const at::Tensor step = other.mean_ - mean_;
    // Not in place: copies of this object share the tensors.
    mean_ = mean_ + step * (b / (a + b));
    scatter_ = scatter_ + other.scatter_ + at::outer(step, step) * (a * b / (a + b));
    count_ += other.count_;
  }

  /// Samples seen so far.
  std::int64_t count() const noexcept { return count_; }
  /// D; 0 before anything was added.
  std::int64_t dimension() const { return count_ == 0 ? 0 : mean_.size(0); }

  /// [D], float64 on the CPU. Throws DataError before any sample.
  at::Tensor mean() const {
    require(1);
    return mean_;
  }
  /// Unbiased (divided by N - 1), [D, D], float64 on the CPU. Throws DataError for fewer than two
  /// samples.
  at::Tensor covariance() const {
    require(2);
    return scatter_ / static_cast<double>(count_ - 1);
  }

 private:
  void require(std::int64_t least) const {
    if (count_ < least) {
      throw DataError("moments of " + std::to_string(count_) + " samples; add at least " +
                      std::to_string(least));
    }
  }

  std::int64_t count_ = 0;
  at::Tensor mean_;
  at::Tensor scatter_;  // sum of (x - mean)(x - mean)'
};

/// The squared Fréchet (2-Wasserstein) distance of two Gaussians,
/// |m_a - m_b|² + Tr(S_a + S_b - 2 (S_a^½ S_b S_a^½)^½), `mean_a`, `mean_b` [D], `covariance_a`,
/// `covariance_b` [D, D]. Roots are taken in float64 by eigen-decomposition, eigenvalues that
/// rounding made negative count as 0, so covariances of any rank serve; each missing rank costs an
/// error of about 1e-8 times the largest eigenvalue. Throws ShapeError for shapes that do not fit,
/// DataError for a number that is not finite, and for a covariance that is not symmetric but for
/// rounding (1e-4 of its largest element).
///
/// Dowson & Landau 1982.
inline double frechet_distance(const at::Tensor& mean_a, const at::Tensor& covariance_a,
                               const at::Tensor& mean_b, const at::Tensor& covariance_b) {
  const auto checked = [&](const at::Tensor& x, std::int64_t dim, const char* name) {
    const std::int64_t d = mean_a.defined() && mean_a.dim() == 1 ? mean_a.size(0) : 0;
    if (!x.defined() || x.dim() != dim || d == 0 || x.size(0) != d || x.size(-1) != d) {
      throw ShapeError(std::string(name) + " has shape " + shape_text(x) +
                       "; the distance of Gaussians takes means [D] and covariances [D, D]");
    }
    const at::Tensor doubles = x.detach().to(at::kCPU, at::kDouble);
    if (!doubles.isfinite().all().item<bool>())
      throw DataError(std::string(name) + " holds NaN or infinity; look at the features");
    return doubles;
  };
  const auto symmetric = [&](const at::Tensor& x, const char* name) {
    const at::Tensor s = checked(x, 2, name);
    if ((s - s.t()).abs().max().item<double>() > 1e-4 * s.abs().max().item<double>()) {
      throw DataError(std::string(name) +
                      " is not symmetric, so it is none; pass the whole of it, not a triangle or a "
                      "factor");
    }
    return (s + s.t()) / 2;
  };
  const at::Tensor m_a = checked(mean_a, 1, "the first mean");
  const at::Tensor m_b = checked(mean_b, 1, "the second mean");
  const at::Tensor s_a = symmetric(covariance_a, "the first covariance");
  const at::Tensor s_b = symmetric(covariance_b, "the second covariance");

  const auto [values, vectors] = at::linalg_eigh(s_a);
  const at::Tensor root = at::mm(vectors * values.clamp_min(0).sqrt(), vectors.t());
  const at::Tensor product = at::mm(at::mm(root, s_b), root);
  const at::Tensor cross =
      at::linalg_eigvalsh((product + product.t()) / 2).clamp_min(0).sqrt().sum();
  const at::Tensor distance = (m_a - m_b).square().sum() + s_a.trace() + s_b.trace() - 2 * cross;
  return std::max(distance.item<double>(), 0.0);  // rounding, where both are the same
}

/// The Fréchet distance of two sets of features. With Inception features of images it is the FID
/// (Heusel et al. 2017), with others a distance of its own scale: give it beside that of real data
/// against real data. It is biased upwards by few samples (about D²/N), so only distances of as
/// many samples compare. Throws DataError for fewer than two samples a side.
inline double frechet_distance(const FeatureMoments& a, const FeatureMoments& b) {
  return frechet_distance(a.mean(), a.covariance(), b.mean(), b.covariance());
}

/// The same, of features [N, D] and [M, D] in memory.
inline double frechet_distance(const at::Tensor& a, const at::Tensor& b) {
  return frechet_distance(FeatureMoments(a), FeatureMoments(b));
}

}}  // namespace flowmatch
