#pragma once

#include <string_view>
#include <utility>

#include "flowmatch/ode/method.hpp"
#include "flowmatch/sample/ancestral_euler.hpp"
#include "flowmatch/sample/dpm_solver.hpp"
#include "flowmatch/sample/dpm_solver_2s.hpp"
#include "flowmatch/sample/renoise.hpp"
#include "flowmatch/sample/sde.hpp"
#include "flowmatch/sample/unipc.hpp"

namespace flowmatch { inline namespace v0 {

/// Calls visit(method) with the sampler's method of that name: those of ode::with_method,
/// `dpm_solver_2s`, `unipc_2`, `unipc_3`, and those that draw fresh noise, `dpm_solver_1` to
/// `dpm_solver_3`, `ancestral_euler`, `euler_maruyama`, `sde_heun` and `renoise`, with their
/// default options. The visitor is compiled for all of them, so it can make a Sampler, but no
/// Likelihood, which needs ode::with_method. Throws OptionError naming the methods where there is
/// none.
template <class Visitor>
auto with_method(std::string_view name, Visitor visit) {
  return ode::with_method(name, std::move(visit), DpmSolver2S{}, UniPC<2>{}, UniPC<3>{},
                          DpmSolver<1>{}, DpmSolver<2>{}, DpmSolver<3>{}, AncestralEuler{},
                          EulerMaruyama{}, SdeHeun{}, Renoise{});
}

}}  // namespace flowmatch
