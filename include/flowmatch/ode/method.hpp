#pragma once

#include <string>
#include <string_view>

#include "flowmatch/core/error.hpp"
#include "flowmatch/ode/adams.hpp"
#include "flowmatch/ode/runge_kutta.hpp"

namespace flowmatch { inline namespace v0 { namespace ode {

/// Calls visit(stepper) with the method of that name, for programs that choose at run time. Throws
/// OptionError naming the methods where there is none.
template <class Visitor>
auto with_method(std::string_view name, Visitor visit) {
  std::string known;
  const auto is = [&](const auto& stepper) {
    known += (known.empty() ? "" : ", ") + std::string(stepper.name);
    return stepper.name == name;
  };
  if (is(Euler{})) return visit(Euler{});
  if (is(Midpoint{})) return visit(Midpoint{});
  if (is(Heun2{})) return visit(Heun2{});
  if (is(Heun3{})) return visit(Heun3{});
  if (is(RK4{})) return visit(RK4{});
  if (is(RK4Classic{})) return visit(RK4Classic{});
  if (is(ExplicitAdams<>{})) return visit(ExplicitAdams<>{});
  if (is(ImplicitAdams<>{})) return visit(ImplicitAdams<>{});
  if (is(AdaptiveHeun{})) return visit(AdaptiveHeun{});
  if (is(Fehlberg2{})) return visit(Fehlberg2{});
  if (is(Bosh3{})) return visit(Bosh3{});
  if (is(Tsit5{})) return visit(Tsit5{});
  if (is(Dopri5{})) return visit(Dopri5{});
  if (is(Dopri8{})) return visit(Dopri8{});
  throw OptionError("there is no method '" + std::string(name) + "'; choose one of " + known);
}

}}}  // namespace flowmatch::ode
