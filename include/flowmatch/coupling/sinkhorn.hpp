#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/coupling/cost.hpp"
#include "flowmatch/coupling/coupling.hpp"
#include "flowmatch/coupling/independent.hpp"
#include "flowmatch/coupling/source.hpp"

namespace flowmatch { inline namespace v0 {

/// Options of `sinkhorn`.
struct SinkhornOptions {
  double regularisation = 0.05;  ///< weight of the plan's entropy, in the costs' unit; above 0
  double marginal_weight = 0;    ///< of the marginals' divergence (unbalanced); 0: they are kept
  double tolerance = 1e-4;       ///< the marginals' summed error at which it ends
  std::int64_t max_iterations = 2000;  ///< at least 1

  /// Throws OptionError for values out of range.
  void validate() const {
    if (!(regularisation > 0) || !std::isfinite(regularisation)) {
      throw OptionError("a regularisation of " + number_text(regularisation) +
                        "; choose a finite one above 0");
    }
    if (!(marginal_weight >= 0) || !std::isfinite(marginal_weight)) {
      throw OptionError("a marginal_weight of " + number_text(marginal_weight) +
                        "; choose a finite one, or 0 for marginals that are kept");
    }
    if (!(tolerance > 0)) {
      throw OptionError("a tolerance of " + number_text(tolerance) + "; choose one above 0");
    }
    if (max_iterations < 1) throw OptionError("max_iterations is below 1; choose at least 1");
  }
};

/// The plan P [N, M] of entropic optimal transport between N and M points of equal weight:
///
///     argmin <P, C> + regularisation KL(P | ab) with the row sums a = 1/N and column sums b = 1/M,
///
/// or, with a `marginal_weight` m, + m KL(P 1 | a) + m KL(P^T 1 | b) instead of the sums
/// (unbalanced: points that lie far off are left out). By Sinkhorn's iterations on potentials (log
/// domain: no regularisation is too small for the exponentials), on the costs' device; the
/// regularisation comes down from the costs' size in halves. Its columns are exact, its rows within
/// the tolerance.
///
/// Throws OptionError for options out of range, ShapeError for other shapes, DataError for costs
/// that are not finite, and where max_iterations do not reach the tolerance.
///
/// Cuturi 2013; Peyré & Cuturi 2019, "Computational optimal transport", sections 4.4 and 10.2, of
/// POT's `sinkhorn_log` and `sinkhorn_unbalanced`, where KL is that of unnormalised measures.
inline at::Tensor sinkhorn(const at::Tensor& costs, const SinkhornOptions& options = {}) {
  options.validate();
  if (!costs.defined() || costs.dim() != 2 || !costs.is_floating_point() || costs.numel() == 0) {
    throw ShapeError("a plan needs floating costs [N, M]; got " + shape_text(costs));
  }
  const at::NoGradGuard no_grad;
  const at::Tensor c =
      costs.detach().to(costs.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  if (!c.isfinite().all().item<bool>()) {
    throw DataError(
        "costs of a plan hold NaN or infinity; look at the samples that they come from");
  }
  const auto n = static_cast<double>(c.size(0)), m = static_cast<double>(c.size(1));
  at::Tensor g = at::zeros({c.size(1)}, c.options());
  at::Tensor f;
  const auto update = [&](double eps) {
    // Unbalanced, each step goes only a part of the way.
    const double part = options.marginal_weight > 0
                            ? options.marginal_weight / (options.marginal_weight + eps)
                            : 1.0;
    f = at::logsumexp((g.unsqueeze(0) - c) / eps - std::log(m), 1) * (-eps * part);
    g = at::logsumexp((f.unsqueeze(1) - c) / eps - std::log(n), 0) * (-eps * part);
  };
  const double end = options.regularisation;
  const double spread = (c.max() - c.min()).item<double>();
  for (double eps = spread; eps > 2 * end; eps /= 2) update(eps);

  const auto plan = [&] {
    return ((f.unsqueeze(1) + g.unsqueeze(0) - c) / end - std::log(n * m)).exp_();
  };
  double error = std::numeric_limits<double>::infinity();
  for (std::int64_t i = 1; i <= options.max_iterations; ++i) {
    const at::Tensor before = g;
    update(end);
    if (i % 10 != 0 && i != options.max_iterations) continue;  // each look holds up a GPU
    error = options.marginal_weight > 0 ? ((g - before).abs().max() / end).item<double>()
                                        : (plan().sum(1) - 1 / n).abs().sum().item<double>();
    if (error <= options.tolerance) return plan();
  }
  throw DataError(
      std::to_string(options.max_iterations) + " iterations leave the plan's marginals " +
      number_text(error) + " from their weights; raise max_iterations, the " + "regularisation (" +
      number_text(end) + " for costs that differ by " + number_text(spread) + ") or the tolerance");
}

/// Pairs drawn from the plan of `sinkhorn` between a source's draws for a batch and its x_1: the
/// minibatch form of the Schrödinger bridge's coupling, with regularisation 2 sigma^2 for
/// `BridgePath(sigma)` (Tong et al. 2024, section 3.2.4).
///
/// Each x_1 gets an x_0 by its column of the plan, so that an x_0 may serve several or none; data
/// and conditions keep their order. Unbalanced, both are drawn: x_1 and its condition too may come
/// several times, or not at all.
///
/// Throws what the source, the cost and `sinkhorn` throw.
template <class S = GaussianSource, class Cost = SquaredDistance>
class SinkhornCoupling {
 public:
  /// Where x_0 comes from.
  using source_type = S;

  /// With options, of a source and a cost.
  explicit SinkhornCoupling(SinkhornOptions options = {}, S source = S(), Cost cost = Cost())
      : options_(options), independent_(std::move(source)), cost_(std::move(cost)) {
    options_.validate();
  }

  /// (x_0, x_1) and the condition of a batch.
  template <class Condition>
  requires Source<S, Condition> && PairCost<Cost, Condition> Coupled<Condition>
  operator()(const Batch<Condition>& batch, Rng& rng) const {
    Coupled<Condition> pair = independent_(batch, rng);
    const std::int64_t n = pair.x_1.size(0);
    if (n == 0) return pair;
    at::Tensor p = plan(pair.x_0, pair.x_1, pair.condition);
    if (options_.marginal_weight > 0) {
      const at::Tensor drawn = draw(p.sum(0).unsqueeze(0).expand({n, n}), rng);
      pair.x_1 = pair.x_1.index_select(0, drawn);
      pair.condition = condition_traits<Condition>::index_select(pair.condition, drawn);
      p = p.index_select(1, drawn);
    }
    pair.x_0 = pair.x_0.index_select(0, draw(p.t(), rng));
    return pair;
  }

  /// The plan [N, N], whose rows are x_0 and columns x_1.
  template <class Condition = NoCondition>
  requires PairCost<Cost, Condition> at::Tensor plan(const at::Tensor& x_0, const at::Tensor& x_1,
                                                     const Condition& condition = Condition{})
  const { return sinkhorn(pair_costs(cost_, x_0, x_1, condition), options_); }

 private:
  // For each row of weights the place of one drawn by them: Gumbel's way would need logarithms of
  // zeros, so by their sums.
  static at::Tensor draw(const at::Tensor& weights, Rng& rng) {
    const at::Tensor sums = weights.to(at::kDouble).cumsum(1);
    const at::Tensor last = sums.select(1, -1).unsqueeze(1);
    const at::Tensor u = rng.uniform({weights.size(0), 1}, sums.options()).to(sums.device()) * last;
    return at::searchsorted(sums, u, /*out_int32=*/false, /*right=*/true)
        .squeeze(1)
        .clamp_max(weights.size(1) - 1);
  }

  SinkhornOptions options_;
  IndependentCoupling<S> independent_;
  Cost cost_;
};

}}  // namespace flowmatch
