#pragma once

#include <ATen/Functions.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "flowmatch/ode/integrate.hpp"
#include "flowmatch/ode/integrate_times.hpp"
#include "flowmatch/ode/runge_kutta.hpp"
#include "flowmatch/solve/tensor_state.hpp"

namespace flowmatch { inline namespace v0 {

/// What `odeint` gives: x at the requested times, [T, …], and what it took.
struct OdeResult {
  at::Tensor x;                ///< at the end, of the shape of the start
  ode::Statistics statistics;  ///< what it took
};

/// How `odeint` goes about it.
struct OdeOptions {
  std::int64_t steps = 1;                   ///< of fixed-step methods, between two requested times
  ode::AdaptiveOptions adaptive{};          ///< of methods with an error estimate
  ode::Output output = ode::Output::dense;  ///< how those come to the requested times
};

namespace detail {

/// Throws OptionError for options out of range, and where a solve might end before its last time:
/// what was asked for would be missing, or be that of another time.
inline void check_solved_whole(const ode::AdaptiveOptions& options) {
  options.validate();
  if (options.at_limit == ode::AtLimit::stop) {
    throw OptionError(
        "x is asked for at the last time, where AtLimit::stop may not come; choose AtLimit::fail, "
        "a larger max_steps, or ode::integrate, which gives the state that it got to");
  }
}

/// `odeint` from an x_0 in whose dtype the solution is summed.
template <class Method, class F>
OdeResult solve_at_times(F& f, const at::Tensor& x_0, const std::vector<double>& times,
                         const Method& method, const OdeOptions& options) {
  ode::TimeGrid::nodes(times);  // throws unless there are two or more, in order
  if (options.steps < 1) {
    throw OptionError("steps is " + std::to_string(options.steps) +
                      "; choose at least 1 step between two times");
  }
  // With gradients every state is a new tensor; without, the solver writes over its own.
  const bool functional = at::GradMode::is_enabled();
  at::Tensor x = functional ? x_0 : x_0.clone();
  std::vector<at::Tensor> outputs = {x_0};
  const auto keep = [&](const at::Tensor& now) {
    outputs.push_back(functional ? now : now.clone());
  };
  ode::Statistics statistics;
  if constexpr (ode::ErrorStepper<Method, at::Tensor>) {
    check_solved_whole(options.adaptive);
    statistics = ode::integrate_times(
        method, f, x, times, options.adaptive, [&](double, const at::Tensor& now) { keep(now); },
        options.output);
  } else {
    std::vector<double> nodes = {times.front()};
    for (std::size_t i = 0; i + 1 < times.size(); ++i) {
      for (std::int64_t j = 1; j < options.steps; ++j) {
        nodes.push_back(times[i] + (times[i + 1] - times[i]) * static_cast<double>(j) /
                                       static_cast<double>(options.steps));
      }
      nodes.push_back(times[i + 1]);
    }
    std::int64_t step = 0;
    statistics = ode::integrate(method, f, x, ode::TimeGrid::nodes(nodes),
                                [&](double, const at::Tensor& now) {
                                  if (++step % options.steps == 0) keep(now);
                                });
  }
  return {at::stack(outputs), statistics};
}

}  // namespace detail

/// Solves dx/dt = f(x, t) from x_0 at times[0] and returns x at all the times (rising or falling),
/// as torchdiffeq's function of the same name does. f takes (const Tensor& x, double t) and returns
/// a tensor of x's shape, or takes (x, t, Tensor& dxdt) and writes it there. Methods with an error
/// estimate (`ode::Dopri5`, the default) choose their steps, in one solve through all the times;
/// others make `options.steps` between two times. f is never called outside the times. x_0 stays as
/// it is. Half precision is summed in float32, f gets and the result has x_0's dtype. With
/// gradients on, the result carries them to x_0 and to whatever f uses. Throws OptionError,
/// SolverError as ode::integrate does, OptionError also for AtLimit::stop, which might end before
/// the last time; ShapeError where x_0 holds no floating numbers or f changes the shape.
template <class Method = ode::Dopri5, class F>
requires ode::Stepper<Method, at::Tensor> && ode::System<F, at::Tensor> OdeResult
odeint(F&& f, const at::Tensor& x_0, const std::vector<double>& times,
       const Method& method = ode::Dopri5{}, const OdeOptions& options = {}) {
  if (!x_0.defined() || !(x_0.is_floating_point() || x_0.is_complex())) {
    throw ShapeError("odeint starts from a floating tensor x_0; got " +
                     (x_0.defined() ? "one of " + std::string(x_0.dtype().name()) : "undefined") +
                     "; convert it with x_0.to(torch::kFloat)");
  }
  const at::ScalarType own = x_0.scalar_type();
  if (state_dtype(x_0) == own) return detail::solve_at_times(f, x_0, times, method, options);
  const auto cast = [&](const at::Tensor& x, double t) -> at::Tensor {
    const at::Tensor narrow = x.to(own);
    if constexpr (requires(at::Tensor & k) {
                    { f(narrow, t, k) } -> std::same_as<void>;
                  }) {
      at::Tensor k = at::empty_like(narrow);
      f(narrow, t, k);
      return k;
    } else {
      return f(narrow, t);
    }
  };
  OdeResult result = detail::solve_at_times(cast, x_0.to(state_dtype(x_0)), times, method, options);
  result.x = result.x.to(own);
  return result;
}

}}  // namespace flowmatch
