#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "flowmatch/core/error.hpp"
#include "flowmatch/ode/adams.hpp"
#include "flowmatch/ode/runge_kutta.hpp"

namespace flowmatch { inline namespace v0 { namespace ode {

/// Calls visit(stepper) with the method of that name, for programs that choose at run time, among
/// those for ordinary differential equations and `more` (sample/method.hpp adds the samplers' own).
/// Throws OptionError naming the methods where there is none.
template <class Visitor, class... More>
auto with_method(std::string_view name, Visitor visit, const More&... more) {
  using Answer = decltype(visit(Euler{}));
  std::string known;
  std::function<Answer()> found;
  const auto look = [&](const auto&... methods) {
    const auto at = [&](const auto& method) {
      known += (known.empty() ? "" : ", ") + std::string(method.name);
      if (!found && method.name == name) found = [&visit, method] { return visit(method); };
    };
    (at(methods), ...);
  };
  look(Euler{}, Midpoint{}, Heun2{}, Heun3{}, RK4{}, RK4Classic{}, ExplicitAdams<>{},
       ImplicitAdams<>{}, AdaptiveHeun{}, Fehlberg2{}, Bosh3{}, Tsit5{}, Dopri5{}, Dopri8{},
       more...);
  if (found) return found();
  throw OptionError("there is no method '" + std::string(name) + "'; choose one of " + known);
}

}}}  // namespace flowmatch::ode
