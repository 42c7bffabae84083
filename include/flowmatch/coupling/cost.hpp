#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <concepts>
#include <cstdint>
#include <string>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"

namespace flowmatch { inline namespace v0 {

/// What it costs to pair each x_0 with each x_1.
/// 1. `c(x_0, x_1)`, or `c(x_0, x_1, condition)`, gives finite real costs [N, M] for x_0 [N, …] and
/// x_1 [M, …]. Any callable of that form is one. Where it takes the condition, N = M, and x_0[i]
/// was drawn for condition i, x_1[j] is the data of condition j.
template <class C, class Condition = NoCondition>
concept PairCost = std::copyable<C> &&(
    requires(const C& c, const at::Tensor& x, const Condition& condition) {
      { c(x, x, condition) } -> std::convertible_to<at::Tensor>;
    } ||
    requires(const C& c, const at::Tensor& x) {
      { c(x, x) } -> std::convertible_to<at::Tensor>;
    });

/// |x_0 - x_1|^2, the cost of the dynamic optimal transport that straight paths solve: as one
/// product of matrices, in float32 (float64 for float64), of points counted from the mean of x_1 so
/// that little is lost where they lie far from the origin.
struct SquaredDistance {
  /// The costs [N, M].
  at::Tensor operator()(const at::Tensor& x_0, const at::Tensor& x_1) const {
    at::Tensor from = rows(x_0), to = rows(x_1);
    if (from.size(1) != to.size(1)) {
      throw ShapeError("x_0 has shape " + shape_text(x_0) + " and x_1 " + shape_text(x_1) +
                       "; they must be alike but for their number");
    }
    const at::Tensor centre = to.mean(0);
    from = from - centre;
    to = to - centre;
    const auto squares = [](const at::Tensor& x) {
      return at::linalg_vector_norm(x, 2, at::IntArrayRef{1}).square();
    };
    at::Tensor costs = squares(from).unsqueeze(1) + squares(to);
    return costs.addmm_(from, to.t(), 1, -2).clamp_min_(0);
  }

 private:
  static at::Tensor rows(const at::Tensor& x) {
    if (!x.defined() || x.dim() == 0) {
      throw ShapeError("a cost needs samples [N, …]; got " + shape_text(x));
    }
    check_floating(x);
    const at::Tensor real = x.is_complex() ? at::view_as_real(x) : x;
    const at::Tensor flat = real.dim() == 1 ? real.unsqueeze(1) : real.flatten(1);
    return flat.to(flat.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  }
};

/// The costs of a batch by a PairCost `cost`, checked for their shape [N, M].
template <class Condition, PairCost<Condition> C>
at::Tensor pair_costs(const C& cost, const at::Tensor& x_0, const at::Tensor& x_1,
                      const Condition& condition) {
  const at::NoGradGuard no_grad;
  at::Tensor costs;
  if constexpr (requires { cost(x_0, x_1, condition); }) {
    costs = cost(x_0, x_1, condition);
  } else {
    costs = cost(x_0, x_1);
  }
  if (!costs.defined() || costs.dim() != 2 || costs.size(0) != x_0.size(0) ||
      costs.size(1) != x_1.size(0) || !costs.is_floating_point()) {
    throw ShapeError("the costs have shape " + shape_text(costs) + " for " +
                     std::to_string(x_0.size(0)) + " x_0 and " + std::to_string(x_1.size(0)) +
                     " x_1; give floating costs [N, M]");
  }
  return costs.to(costs.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

}}  // namespace flowmatch
