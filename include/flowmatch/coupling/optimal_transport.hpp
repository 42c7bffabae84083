#pragma once

#include <ATen/Functions.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "flowmatch/core/assignment.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/coupling/cost.hpp"
#include "flowmatch/coupling/coupling.hpp"
#include "flowmatch/coupling/independent.hpp"
#include "flowmatch/coupling/source.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

/// What `solve(costs, rows, columns)` gives for costs on the CPU, int64 [N] on the costs' device.
template <class Solve>
at::Tensor assigned(const at::Tensor& costs, const Solve& solve) {
  if (!costs.defined() || costs.dim() != 2 || !costs.is_floating_point()) {
    throw ShapeError("an assignment needs floating costs [N, M]; got " + shape_text(costs));
  }
  const bool exact = costs.scalar_type() == at::kDouble;
  const at::Tensor here =
      costs.detach().to(at::kCPU, exact ? at::kDouble : at::kFloat).contiguous();
  const std::int64_t rows = here.size(0), columns = here.size(1);
  const std::vector<std::int64_t> column_of =
      exact ? solve(here.const_data_ptr<double>(), rows, columns)
            : solve(here.const_data_ptr<float>(), rows, columns);
  return at::tensor(column_of, at::kLong).to(costs.device());
}

}  // namespace detail

/// The assignment of each row of a cost matrix [N, M], N <= M, to a column of its own at the least
/// total cost: int64 [N], on the costs' device. Exact; it is found on the CPU (see `assign`).
/// Throws ShapeError for other shapes, DataError for costs that are not finite.
inline at::Tensor optimal_assignment(const at::Tensor& costs) {
  return detail::assigned(costs, [](const auto* cost, std::int64_t rows, std::int64_t columns) {
    return assign(cost, rows, columns);
  });
}

/// Minibatch optimal transport: the x_0 that a source draws for a batch go to its x_1 so that the
/// total cost is least. Paths cross less, so that fewer steps of a solver do (Pooladian et al.
/// 2023; OT-CFM of Tong et al. 2024). Each x_0 serves one x_1, none is lost; data and conditions
/// keep their order.
///
/// With conditions it skews the noise that each one gets, so that samples of one condition come out
/// wrong: give `ConditionAware` as the cost there (Cheng & Schwing 2025).
///
/// Costs are `SquaredDistance` by default; any PairCost serves. Throws what the source, the cost
/// and `optimal_assignment` throw.
template <class S = GaussianSource, class Cost = SquaredDistance>
class OptimalTransportCoupling {
 public:
  /// Where x_0 comes from.
  using source_type = S;

  OptimalTransportCoupling() = default;
  /// Of a source, and with another cost.
  explicit OptimalTransportCoupling(S source, Cost cost = Cost())
      : independent_(std::move(source)), cost_(std::move(cost)) {}
  /// With another cost alone.
  explicit OptimalTransportCoupling(Cost cost) requires(!std::same_as<Cost, S>)
      : cost_(std::move(cost)) {}

  /// (x_0, x_1) and the condition of a batch.
  template <class Condition>
  requires Source<S, Condition> && PairCost<Cost, Condition> Coupled<Condition>
  operator()(const Batch<Condition>& batch, Rng& rng) const {
    Coupled<Condition> pair = independent_(batch, rng);
    pair.x_0 = pair.x_0.index_select(0, assignment(pair.x_0, pair.x_1, pair.condition));
    return pair;
  }

  /// Which x_0 goes to each x_1: a permutation, int64 [N].
  template <class Condition = NoCondition>
  requires PairCost<Cost, Condition> at::Tensor assignment(const at::Tensor& x_0,
                                                           const at::Tensor& x_1,
                                                           const Condition& condition = Condition{})
  const {
    check_same_shape(x_0, "x_0", x_1, "x_1");
    if (x_0.size(0) == 0) return at::empty({0}, x_0.options().dtype(at::kLong));
    return optimal_assignment(pair_costs(cost_, x_0, x_1, condition)).argsort();
  }

 private:
  IndependentCoupling<S> independent_{};
  Cost cost_{};
};

// One argument is a cost where it can be called as one, else a source.
template <class S>
requires(!PairCost<S> && !PairCost<S, at::Tensor>) OptimalTransportCoupling(S)
->OptimalTransportCoupling<S>;
template <class Cost>
requires(PairCost<Cost> || PairCost<Cost, at::Tensor>) OptimalTransportCoupling(Cost)
->OptimalTransportCoupling<GaussianSource, Cost>;
template <class S, class Cost>
OptimalTransportCoupling(S, Cost) -> OptimalTransportCoupling<S, Cost>;

}}  // namespace flowmatch
