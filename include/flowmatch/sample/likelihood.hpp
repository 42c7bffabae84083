#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>

#include <cmath>
#include <concepts>
#include <cstdint>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/model/eval_scope.hpp"
#include "flowmatch/model/modules_in.hpp"
#include "flowmatch/model/velocity_model.hpp"
#include "flowmatch/ode/integrate.hpp"
#include "flowmatch/sample/divergence.hpp"
#include "flowmatch/sample/sampler.hpp"
#include "flowmatch/solve/tensor_state.hpp"

namespace flowmatch { inline namespace v0 {

/// log N(x; 0, I) for x [B, …]: [B].
inline at::Tensor standard_normal_log_prob(const at::Tensor& x) {
  const double log_2_pi = std::log(2 * std::acos(-1.0));
  return -0.5 * (detail::rows(x).square() + log_2_pi).sum(1);
}

/// Options of `Likelihood`.
struct LikelihoodOptions {
  /// log p_0(x_0) -> [B], the density of the source.
  std::function<at::Tensor(const at::Tensor&)> source_log_prob = standard_normal_log_prob;
  bool gradients = false;  ///< let them through, to x, the parameters and the condition
};

/// Log-densities and what they took.
struct LikelihoodResult {
  at::Tensor log_prob;         ///< [B], in nats
  at::Tensor x;                ///< [B, …] at the other end: x_0 of log_prob, x_1 of sample_from
  ode::Statistics statistics;  ///< what it took
};

/// The density of what a flow generates, by the change of variables along its trajectories,
///   log p_1(x_1) = log p_0(x_0) - integral over t in [0, 1] of div v(x_t, t)
/// (Chen et al. 2018, eq. 8; Lipman et al. 2023, appendix C). Position and integral are solved as
/// one equation, by any method for ordinary differential equations.
///
/// `Likelihood(net, ode::Dopri5{}, AdaptiveOptions{})`, or with a TimeGrid from 0 to 1; a fourth
/// argument chooses the divergence: ExactDivergence{} (the default) or Hutchinson{}. Models and
/// dtypes are taken as the Sampler takes them; models must treat samples independently, as networks
/// in evaluation mode do, and be differentiable by x. Methods that draw fresh noise do not compile.
/// Works under NoGradGuard and InferenceMode. Throws OptionError for a grid that does not go from 0
/// to 1, for AtLimit::stop, for a network made in InferenceMode and for a model whose derivative
/// autograd did not record at all; ShapeError, SolverError as the Sampler does.
template <class Model, class Method, class Plan, class Divergence = ExactDivergence>
class Likelihood {
  static constexpr bool adaptive = std::is_same_v<Plan, AdaptiveOptions>;
  static_assert(adaptive || std::is_same_v<Plan, TimeGrid>,
                "flowmatch: a Likelihood's third argument is a TimeGrid or AdaptiveOptions");
  static_assert(
      ode::Stepper<Method, at::Tensor>,
      "flowmatch: a Likelihood needs a method for ordinary differential equations, such as "
      "ode::Dopri5{}; one that draws fresh noise would put it into the density");
  static_assert(!adaptive || ode::ErrorStepper<Method, at::Tensor>,
                "flowmatch: this method has no error estimate to choose steps by; give the "
                "Likelihood a TimeGrid");

 public:
  /// Of its parts.
  Likelihood(Model model, Method method, Plan plan, Divergence divergence = {},
             LikelihoodOptions options = {})
      : model_(std::move(model)),
        method_(method),
        plan_(std::move(plan)),
        divergence_(std::move(divergence)),
        options_(std::move(options)) {}

  /// log p_1 of data x_1 [B, …], and the noise x_0 that it encodes to: solved from t = 1 to 0.
  template <Condition C = NoCondition>
  LikelihoodResult log_prob(const at::Tensor& x_1, const C& condition = C{}) {
    auto [x_0, integral, statistics] = solve(x_1, condition, /*backwards=*/true);
    return {source_log_prob(x_0, integral) + integral, x_0, statistics};
  }

  /// Samples x_1 from starts x_0 [B, …] together with their log p_1, in one solve from 0 to 1.
  template <Condition C = NoCondition>
  LikelihoodResult sample_from(const at::Tensor& x_0, const C& condition = C{}) {
    auto [x_1, integral, statistics] = solve(x_0, condition, /*backwards=*/false);
    return {source_log_prob(x_0.to(integral.scalar_type()), integral) - integral, x_1, statistics};
  }

 private:
  struct Solved {
    at::Tensor x;
    at::Tensor integral;  // of the divergence, in the solve's direction
    ode::Statistics statistics;
  };

  at::Tensor source_log_prob(const at::Tensor& x_0, const at::Tensor& integral) const {
    const c10::InferenceMode recording(false);
    const at::AutoGradMode gradients(options_.gradients);
    const at::Tensor p = options_.source_log_prob(options_.gradients ? x_0 : x_0.detach());
    check_same_shape(p, "source_log_prob(x_0)", integral, "a number a sample");
    return p;
  }

  template <class C>
  Solved solve(const at::Tensor& x, const C& given, bool backwards) {
    static_assert(VelocityModel<Model, C>,
                  "flowmatch: this model cannot be called as forward(x, t) or, with a condition, "
                  "forward(x, t, condition), giving a tensor; see model/velocity_model.hpp");
    if (!x.defined() || x.dim() < 1 || !x.is_floating_point()) {
      throw ShapeError("a likelihood needs a floating tensor [B, …]; got " + shape_text(x));
    }
    check_condition_size(given, x.size(0));
    check_plan();
    const c10::InferenceMode recording(false);  // in which autograd would record nothing
    const at::AutoGradMode gradients(options_.gradients);
    for (const at::Tensor& p : parameters_in(model_)) {
      if (p.is_inference()) {
        throw OptionError(
            "the network was made in InferenceMode, and autograd records nothing of it; make it "
            "outside");
      }
    }
    // A copy: autograd saves no tensor that was made in InferenceMode.
    const C condition = condition_traits<C>::index_select(
        given, at::arange(x.size(0), x.options().dtype(at::kLong).requires_grad(false)));
    const EvalScope eval(model_);
    const std::optional<Placement> placement = placement_of(model_);
    const at::Tensor start = x.to(detail::double_or(placement, state_dtype(x)));
    const at::ScalarType asked = placement ? start.scalar_type() : x.scalar_type();
    divergence_.prepare(start);
    if (x.size(0) == 0) return {start, at::zeros({0}, start.options().requires_grad(false)), {}};

    const std::vector<std::int64_t> shape = x.sizes().vec();
    const auto system = [&](const at::Tensor& state, double t) {
      const at::AutoGradMode on(true);  // the divergence is a derivative
      const at::Tensor at_x = state.slice(1, 0, -1).view(shape);
      auto field = [&](const at::Tensor& many, std::int64_t n) {
        const at::Tensor seen = many.to(asked);
        const at::Tensor time = at::full(
            {seen.size(0)}, t, seen.options().dtype(time_dtype(seen)).requires_grad(false));
        const at::Tensor v = n == 1
                                 ? call_model(model_, seen, time, condition)
                                 : call_model(model_, seen, time,
                                              condition_traits<C>::repeat_interleave(condition, n));
        check_same_shape(v, "the model's output", many, "its input x");
        return v.to(many.scalar_type());
      };
      const Divergent d = divergence_(field, at_x, options_.gradients);
      const at::Tensor change = at::cat({detail::rows(d.v), d.divergence.unsqueeze(1)}, 1);
      return options_.gradients ? change : change.detach();
    };
    at::Tensor state = at::cat(
        {detail::rows(start), at::zeros({x.size(0), 1}, start.options().requires_grad(false))}, 1);
    ode::Statistics statistics;
    if constexpr (adaptive) {
      statistics =
          ode::integrate(method_, system, state, backwards ? 1 : 0, backwards ? 0 : 1, plan_);
    } else {
      statistics = ode::integrate(method_, system, state, backwards ? plan_.reversed() : plan_);
    }
    return {state.slice(1, 0, -1).view(shape), state.select(1, -1), statistics};
  }

  void check_plan() const {
    if constexpr (adaptive) {
      plan_.validate();
      if (plan_.at_limit == ode::AtLimit::stop) {
        throw OptionError(
            "half a solve has no density; leave AtLimit::stop out, and raise max_steps where they "
            "do not do");
      }
    } else if (!plan_.contiguous() || !ode::detail::same_time(plan_.t0(), 0, 0, 1) ||
               !ode::detail::same_time(plan_.t1(), 1, 0, 1)) {
      throw OptionError(
          "a likelihood is solved from one end to the other: its time grid must go from 0 to 1 "
          "step by step, not from " +
          number_text(plan_.t0()) + " to " + number_text(plan_.t1()) +
          (plan_.contiguous() ? "" : " as the post's does") + "; use TimeGrid::uniform(n)");
    }
  }

  Model model_;
  Method method_;
  Plan plan_;
  Divergence divergence_;
  LikelihoodOptions options_;
};

template <class M, class Method, class Plan>
Likelihood(M&&, Method, Plan) -> Likelihood<model_storage_t<M>, Method, Plan>;
template <class M, class Method, class Plan, class D>
Likelihood(M&&, Method, Plan, D) -> Likelihood<model_storage_t<M>, Method, Plan, D>;
template <class M, class Method, class Plan, class D>
Likelihood(M&&, Method, Plan, D, LikelihoodOptions)
    -> Likelihood<model_storage_t<M>, Method, Plan, D>;

}}  // namespace flowmatch
