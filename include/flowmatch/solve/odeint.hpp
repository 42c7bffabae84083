#pragma once

#include <ATen/Functions.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "flowmatch/ode/integrate.hpp"
#include "flowmatch/ode/runge_kutta.hpp"
#include "flowmatch/solve/tensor_state.hpp"

namespace flowmatch::inline v0 {

/// What `odeint` gives: x at the requested times, [T, …], and what it took.
struct OdeResult {
  at::Tensor x;
  ode::Statistics statistics;
};

/// How `odeint` goes about it.
struct OdeOptions {
  std::int64_t steps = 1;           ///< of fixed-step methods, between two requested times
  ode::AdaptiveOptions adaptive{};  ///< of methods with an error estimate
};

/// Solves dx/dt = f(x, t) from x_0 at times[0] and returns x at all the times (rising or falling),
/// as torchdiffeq's function of the same name does. f takes (const Tensor& x, double t) and returns
/// a new tensor of x's shape. Methods with an error estimate (`ode::Dopri5`) choose their steps;
/// others make `options.steps` between two times. f is never called outside the times. With
/// gradients on, the result carries them to x_0 and to whatever f uses. Throws OptionError,
/// SolverError as ode::integrate does, ShapeError where f changes the shape or x_0 is not floating.
template <class Method = ode::Dopri5, class F>
requires ode::Stepper<Method, at::Tensor> && ode::System<F, at::Tensor> OdeResult
odeint(F&& f, const at::Tensor& x_0, const std::vector<double>& times,
       const Method& method = ode::Dopri5{}, const OdeOptions& options = {}) {
  if (!x_0.defined() || !(x_0.is_floating_point() || x_0.is_complex())) {
    throw ShapeError("odeint starts from a floating tensor x_0; got " +
                     (x_0.defined() ? "one of " + std::string(x_0.dtype().name()) : "undefined"));
  }
  ode::TimeGrid::nodes(times);  // throws unless there are two or more, in order
  if (options.steps < 1) {
    throw OptionError("steps is " + std::to_string(options.steps) +
                      "; choose at least 1 step between two times");
  }
  at::Tensor x = at::GradMode::is_enabled() ? x_0 : x_0.clone();
  std::vector<at::Tensor> outputs = {x_0};
  ode::Statistics total;
  for (std::size_t i = 0; i + 1 < times.size(); ++i) {
    ode::Statistics s;
    if constexpr (ode::ErrorStepper<Method, at::Tensor>) {
      s = ode::integrate(method, f, x, times[i], times[i + 1], options.adaptive);
    } else {
      s = ode::integrate(method, f, x,
                         ode::TimeGrid::uniform(options.steps, times[i], times[i + 1]));
    }
    outputs.push_back(at::GradMode::is_enabled() ? x : x.clone());
    total += s;
  }
  return {at::stack(outputs), total};
}

}  // namespace flowmatch::inline v0
