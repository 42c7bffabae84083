#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "flowmatch/core/expand.hpp"
#include "flowmatch/ode/integrate.hpp"
#include "flowmatch/ode/runge_kutta.hpp"
#include "flowmatch/solve/odeint.hpp"
#include "flowmatch/solve/recorded.hpp"
#include "flowmatch/solve/tensor_state.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

using TensorSystem = std::function<at::Tensor(const at::Tensor& x, double t)>;

/// What the way back needs to know: the field, and how to advance a state under a field. `counted`
/// is how many of a state's first elements its error norm looks at; 0: all.
struct AdjointProblem {
  TensorSystem f;
  std::vector<at::Tensor> parameters;
  std::function<void(const TensorSystem&, at::Tensor& state, double t0, double t1,
                     std::int64_t counted)>
      advance;
};

struct AdjointFunction : torch::autograd::Function<AdjointFunction> {
  using Context = torch::autograd::AutogradContext;
  using Tensors = torch::autograd::variable_list;

  static at::Tensor forward(Context* context, std::shared_ptr<const AdjointProblem> problem,
                            const at::Tensor& x_0, const at::Tensor& times,
                            const at::Tensor& /*all parameters, for the graph*/) {
    const auto* t = times.const_data_ptr<double>();
    at::Tensor x = x_0.detach().clone();
    std::vector<at::Tensor> outputs = {x.clone()};
    for (std::int64_t i = 0; i + 1 < times.size(0); ++i) {
      problem->advance(problem->f, x, t[i], t[i + 1], 0);
      outputs.push_back(x.clone());
    }
    const at::Tensor all = at::stack(outputs);
    context->save_for_backward({all, times});
    context->saved_data["problem"] =
        c10::IValue::make_capsule(c10::make_intrusive<Held>(std::move(problem)));
    return all;
  }

  static Tensors backward(Context* context, Tensors gradients) {
    if (at::GradMode::is_enabled()) {
      throw OptionError(
          "odeint_adjoint has no second derivatives, which create_graph asks for; use odeint, "
          "whose steps are differentiable, or call backward without create_graph");
    }
    const Tensors saved = context->get_saved_variables();
    const auto held =
        c10::static_intrusive_pointer_cast<Held>(context->saved_data["problem"].toCapsule());
    const AdjointProblem& problem = *held->problem;
    const at::Tensor& outputs = saved[0];
    const at::Tensor gradient = gradients[0].contiguous();
    const auto* t = saved[1].const_data_ptr<double>();
    const std::vector<at::Tensor>& parameters = problem.parameters;
    const std::int64_t n = outputs[0].numel();

    // x, the adjoint a = dL/dx, and dL/dparameters, one after the other in one state.
    const TensorSystem augmented = [&](const at::Tensor& state, double time) {
      const at::AutoGradMode on(true);
      // A copy: f may keep what it is given.
      const at::Tensor x =
          state.slice(0, 0, n).view(outputs[0].sizes()).detach().clone().requires_grad_();
      const at::Tensor a = state.slice(0, n, 2 * n).view(x.sizes());
      const at::Tensor v = problem.f(x, time);
      check_same_shape(v, "the field's output", x, "its input x");
      std::vector<at::Tensor> parts = {v.detach().flatten()};
      Tensors inputs = {x};
      inputs.insert(inputs.end(), parameters.begin(), parameters.end());
      Tensors slopes(inputs.size());
      if (v.requires_grad()) {
        slopes = torch::autograd::grad({v}, inputs, {a}, /*retain_graph=*/false,
                                       /*create_graph=*/false, /*allow_unused=*/true);
      }
      if (!slopes[0].defined())
        require_constant([&](const at::Tensor& beside) { return problem.f(beside, time); }, x, v);
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        parts.push_back(slopes[i].defined()
                            ? slopes[i].flatten().neg().to(x.scalar_type())
                            : at::zeros({inputs[i].numel()}, x.options().requires_grad(false)));
      }
      return at::cat(parts);
    };
    std::int64_t size = 2 * n;
    for (const at::Tensor& p : parameters) size += p.numel();
    at::Tensor state = at::zeros({size}, outputs.options().requires_grad(false));
    at::Tensor time_gradient = at::zeros_like(saved[1]);
    const auto speed = [&](std::int64_t i, const at::Tensor& a) {
      const at::NoGradGuard no_grad;
      return (problem.f(outputs[i], t[i]) * a).sum().to(at::kDouble);
    };
    for (std::int64_t i = outputs.size(0) - 1; i > 0; --i) {
      state.slice(0, 0, n).copy_(outputs[i].flatten());  // not where the way back drifted to
      state.slice(0, n, 2 * n).add_(gradient[i].flatten());
      time_gradient[i] = speed(i, gradient[i]);
      problem.advance(augmented, state, t[i], t[i - 1], 2 * n);
    }
    const at::Tensor a = state.slice(0, n, 2 * n).view(outputs[0].sizes());
    time_gradient[0] = -speed(0, a);
    return {at::Tensor{}, a + gradient[0], time_gradient, state.slice(0, 2 * n)};
  }

 private:
  struct Held : torch::CustomClassHolder {
    explicit Held(std::shared_ptr<const AdjointProblem> p) : problem(std::move(p)) {}
    std::shared_ptr<const AdjointProblem> problem;
  };
};

}  // namespace detail

/// `odeint` whose gradients are found by solving the adjoint equation backwards in time instead of
/// through the solver's steps: memory does not grow with their number (Chen et al. 2018, algorithm
/// 1). f takes (const Tensor& x, double t); gradients go to x_0, to `parameters` (those that f uses
/// and that want them, such as module->parameters()) and to the times, given as a float64 tensor
/// [T] on the CPU. On the way back the parameters take no part in the error norm (Kidger et al.
/// 2021). Returns x at the times, [T, …]. The gradients are those of the exact solution, so they
/// agree with odeint's within the tolerance. Throws as odeint does; ShapeError for times that are
/// no float64 vector; on the way back OptionError where autograd did not record what f does with x,
/// and for second derivatives (create_graph).
template <class Method = ode::Dopri5, class F>
at::Tensor odeint_adjoint(F f, const at::Tensor& x_0, const at::Tensor& times,
                          const std::vector<at::Tensor>& parameters, const Method& method = {},
                          const ode::AdaptiveOptions& options = {}) {
  if (!x_0.defined() || !x_0.is_floating_point() || state_dtype(x_0) != x_0.scalar_type()) {
    throw ShapeError(
        "odeint_adjoint starts from a floating tensor x_0 of float32 or float64; got " +
        shape_text(x_0) + "; convert it with x_0.to(torch::kFloat)");
  }
  if (!times.defined() || times.dim() != 1 || times.scalar_type() != at::kDouble ||
      !times.device().is_cpu() || !times.is_contiguous()) {
    throw ShapeError("odeint_adjoint takes its times as a float64 tensor [T] on the CPU; got " +
                     shape_text(times));
  }
  const auto* first = times.const_data_ptr<double>();
  ode::TimeGrid::nodes(
      std::vector<double>(first, first + times.size(0)));  // throws unless in order
  detail::check_solved_whole(options);
  auto problem = std::make_shared<detail::AdjointProblem>();
  std::vector<at::Tensor> flat = {at::empty({0}, x_0.options().requires_grad(false))};
  for (const at::Tensor& p : parameters) {
    const auto is_same = [&](const at::Tensor& taken) { return taken.is_same(p); };
    const std::vector<at::Tensor>& all = problem->parameters;
    // LibTorch's parameters() names a tied one as often as it is tied.
    if (!p.requires_grad() || std::any_of(all.begin(), all.end(), is_same)) continue;
    problem->parameters.push_back(p);
    flat.push_back(p.flatten().to(x_0.options()));
  }
  problem->f = std::move(f);
  problem->advance = [method, options](const detail::TensorSystem& system, at::Tensor& state,
                                       double t0, double t1, std::int64_t counted) {
    const at::NoGradGuard in_place;
    const auto norm = [&](const at::Tensor& error, const at::Tensor& a, const at::Tensor& b,
                          const ode::Tolerance& tolerance) {
      const auto seen = [&](const at::Tensor& v) {
        return counted > 0 ? v.slice(0, 0, counted) : v;
      };
      return ode::state_traits<at::Tensor>::norm(seen(error), seen(a), seen(b), tolerance);
    };
    ode::integrate(method, system, state, t0, t1, options, ode::NoObserver{}, ode::PIDController{},
                   norm);
  };
  return detail::AdjointFunction::apply(std::shared_ptr<const detail::AdjointProblem>(problem), x_0,
                                        times, at::cat(flat));
}

}}  // namespace flowmatch
