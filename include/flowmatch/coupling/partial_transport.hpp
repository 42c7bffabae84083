#pragma once

#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/partial_assignment.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/coupling/cost.hpp"
#include "flowmatch/coupling/coupling.hpp"
#include "flowmatch/coupling/independent.hpp"
#include "flowmatch/coupling/optimal_transport.hpp"
#include "flowmatch/coupling/source.hpp"

namespace flowmatch { inline namespace v0 {

/// The number of `pairs` of a row and a column of a cost matrix [N, M] that cost least in all, each
/// row and column in one pair at most: the column of each row, int64 [N], -1 for rows that are left
/// out, on the costs' device. Exact; it is found on the CPU (see `assign_partially`). Throws
/// OptionError unless 0 <= pairs <= min(N, M), ShapeError for other shapes, DataError for costs
/// that are not finite.
inline at::Tensor partial_assignment(const at::Tensor& costs, std::int64_t pairs) {
  return detail::assigned(costs,
                          [pairs](const auto* cost, std::int64_t rows, std::int64_t columns) {
                            return assign_partially(cost, rows, columns, pairs);
                          });
}

/// Minibatch partial optimal transport: of the x_0 that a source draws for a batch of N, and its
/// x_1, only a share `mass` is paired, that which costs least in all; points that lie far from all
/// others are left out (Chapel, Alaya & Gasso 2020, section 3.1). It is the exact counterpart of
/// the unbalanced `SinkhornCoupling`, and with a mass of 1 it is `OptimalTransportCoupling`.
///
/// Gives k = round(mass N) pairs, at least 1: a training step has k samples then, whose x_1 and
/// conditions keep their order. What is left out is so for each batch anew, by what else is in it.
/// Where classes lie at different distances from the source, so does their share change.
///
/// Costs are `SquaredDistance` by default; any PairCost serves. Throws OptionError unless 0 < mass
/// <= 1, and what the source, the cost and `partial_assignment` throw.
template <class S = GaussianSource, class Cost = SquaredDistance>
class PartialTransportCoupling {
 public:
  /// Where x_0 comes from.
  using source_type = S;

  /// Of a share of the pairs, a source and a cost.
  explicit PartialTransportCoupling(double mass, S source = S(), Cost cost = Cost())
      : mass_(mass), independent_(std::move(source)), cost_(std::move(cost)) {
    if (!(mass > 0 && mass <= 1)) {
      throw OptionError("partial transport of a mass of " + number_text(mass) +
                        "; choose a share of the pairs in (0, 1]");
    }
  }

  /// k pairs (x_0, x_1) of a batch, and their condition.
  template <class Condition>
  requires Source<S, Condition> && PairCost<Cost, Condition> Coupled<Condition>
  operator()(const Batch<Condition>& batch, Rng& rng) const {
    Coupled<Condition> pair = independent_(batch, rng);
    const at::Tensor x_0_of = assignment(pair.x_0, pair.x_1, pair.condition);
    const at::Tensor kept = x_0_of.ge(0).nonzero().flatten();
    pair.x_0 = pair.x_0.index_select(0, x_0_of.index_select(0, kept));
    pair.x_1 = pair.x_1.index_select(0, kept);
    pair.condition = condition_traits<Condition>::index_select(pair.condition, kept);
    return pair;
  }

  /// Which x_0 goes to each x_1, -1 for the x_1 that are left out: int64 [N].
  template <class Condition = NoCondition>
  requires PairCost<Cost, Condition> at::Tensor assignment(const at::Tensor& x_0,
                                                           const at::Tensor& x_1,
                                                           const Condition& condition = Condition{})
  const {
    check_same_shape(x_0, "x_0", x_1, "x_1");
    const std::int64_t n = x_0.size(0);
    if (n == 0) return at::empty({0}, x_0.options().dtype(at::kLong));
    return partial_assignment(pair_costs(cost_, x_0, x_1, condition).t(), pairs(n));
  }

  /// How many pairs it makes of a batch of n, k.
  std::int64_t pairs(std::int64_t n) const {
    const auto k = static_cast<std::int64_t>(std::llround(mass_ * static_cast<double>(n)));
    return n == 0 ? 0 : std::max<std::int64_t>(k, 1);
  }

 private:
  double mass_;
  IndependentCoupling<S> independent_;
  Cost cost_;
};

}}  // namespace flowmatch
