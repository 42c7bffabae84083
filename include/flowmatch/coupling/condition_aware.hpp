#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <tuple>
#include <utility>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/coupling/cost.hpp"

namespace flowmatch { inline namespace v0 {

/// How unlike the conditions of N samples are, for each pair of them.
struct ConditionCosts {
  at::Tensor differs{};   ///< bool [N, N]: these must not be paired; undefined where all may
  at::Tensor distance{};  ///< [N, N] of at least 0, by how much they differ; undefined for none
};

/// How `ConditionAware` compares conditions of a type: `costs(c)` gives ConditionCosts. Whole
/// numbers and truth values are classes, equal or not; floating tensors have a squared distance;
/// tuples have what their parts have. Specialise it for a type of your own.
template <class Condition>
struct condition_costs;

/// All may be paired.
template <>
struct condition_costs<NoCondition> {
  /// None.
  static ConditionCosts costs(const NoCondition&) { return {}; }
};

/// Classes, or numbers with a distance.
template <>
struct condition_costs<at::Tensor> {
  /// Of the condition `c` [N, …].
  static ConditionCosts costs(const at::Tensor& c) {
    if (c.is_floating_point() || c.is_complex()) return {{}, SquaredDistance{}(c, c)};
    const at::Tensor rows = c.dim() == 1 ? c.unsqueeze(1) : c.flatten(1);
    return {rows.unsqueeze(1).ne(rows.unsqueeze(0)).any(2), {}};
  }
};

/// What the parts have.
template <class... Parts>
struct condition_costs<std::tuple<Parts...>> {
  /// Of the parts of `c`, each with N entries.
  static ConditionCosts costs(const std::tuple<Parts...>& c) {
    ConditionCosts all;
    const auto add = [&](const ConditionCosts& part) {
      if (part.differs.defined()) {
        all.differs = all.differs.defined() ? all.differs.logical_or(part.differs) : part.differs;
      }
      if (part.distance.defined()) {
        // Each counts from its own mean, so that the unit that it is given in does not matter.
        const double tiny = std::numeric_limits<float>::min();
        const at::Tensor relative = part.distance / part.distance.mean().clamp_min(tiny);
        all.distance = all.distance.defined() ? all.distance + relative : relative;
      }
    };
    std::apply([&](const auto&... parts) { (add(condition_costs<Parts>::costs(parts)), ...); }, c);
    return all;
  }
};

/// The cost of pairs for optimal transport with conditions: cost(x_0, x_1) + w d(c_0, c_1), where
/// c_0 is the condition that x_0 was drawn for (the batch's own), so that the noise that each
/// condition gets stays the whole source (Cheng & Schwing 2025, "The curse of conditions", eq. 8).
///
/// Pairs across classes are not made. For continuous conditions w is found for each batch: the one
/// with which the `share` of all pairs (i, j) costs no more than the pair (i, i); a small share
/// keeps conditions together, one of 1 is plain optimal transport (section 3.3 there has 0.05). A
/// condition may be a tuple of several, discrete and continuous.
///
/// `OptimalTransportCoupling(ConditionAware{})`. Throws OptionError unless 0 < share <= 1.
template <class Cost = SquaredDistance>
class ConditionAware {
 public:
  /// With a share of pairs, and another cost of x.
  explicit ConditionAware(double share = 0.05, Cost cost = Cost())
      : share_(share), cost_(std::move(cost)) {
    if (!(share > 0 && share <= 1)) {
      throw OptionError("a share of pairs of " + number_text(share) + "; choose one in (0, 1]");
    }
  }

  /// The costs [N, N].
  template <class Condition>
  requires requires(const Condition& c) { condition_costs<Condition>::costs(c); }
  at::Tensor operator()(const at::Tensor& x_0, const at::Tensor& x_1,
                        const Condition& condition) const {
    check_condition_size(condition, x_0.size(0));
    at::Tensor costs = pair_costs(cost_, x_0, x_1, condition);
    const ConditionCosts unlike = condition_costs<Condition>::costs(condition);
    if (unlike.distance.defined()) {
      const at::Tensor distance = unlike.distance.to(costs.options());
      costs = costs + weight(costs, distance) * distance;
    }
    if (unlike.differs.defined()) {
      // Beyond what all pairs of like conditions cost together, in float64, which holds both.
      costs = costs.to(at::kDouble);
      const at::Tensor beyond = costs.abs().max() * (2.0 * static_cast<double>(costs.size(0))) + 1;
      costs = costs + beyond * unlike.differs.to(costs.options());
    }
    return costs;
  }

  /// The w of a matrix of `costs` and one of `distance` [N, N], a scalar tensor of at least 0.
  at::Tensor weight(const at::Tensor& costs, const at::Tensor& distance) const {
    // The pair (i, j) costs no more than (i, i) as long as w is at most `reach`.
    const at::Tensor gain = costs.diagonal().unsqueeze(1) - costs;
    const at::Tensor reach = at::where(
        distance > 0, gain / distance,
        at::where(gain >= 0, std::numeric_limits<double>::infinity(), -1.0).to(costs.options()));
    const at::Tensor all = reach.flatten();
    const auto kept = static_cast<std::int64_t>(share_ * static_cast<double>(all.size(0)));
    const std::int64_t place = all.size(0) - std::max<std::int64_t>(kept, 1) + 1;
    const at::Tensor w = std::get<0>(all.kthvalue(place));
    // More pairs of equal conditions than the share: all that a weight can do.
    const at::Tensor most = at::where(all.isinf(), -1.0, all).max();
    return at::where(w.isinf(), most, w).clamp_min(0);
  }

 private:
  double share_;
  Cost cost_;
};

}}  // namespace flowmatch
