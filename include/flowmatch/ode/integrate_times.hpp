#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "flowmatch/ode/adapt.hpp"
#include "flowmatch/ode/grid.hpp"

namespace flowmatch { inline namespace v0 { namespace ode {

/// How x comes to the times that are asked for.
enum class Output {
  dense,  ///< interpolated within the solver's own steps: no step more, however many times
  cut,    ///< steps are cut to end there: as exact as the solve itself
};

/// Advances x from times.front() to times.back(), which must rise or fall all the way, with steps
/// as large as the tolerance allows; `output` says how x comes to the times. The
/// observer hears of x at each time but the first, and not of the steps between. It is one solve:
/// step size and first stage carry over from one time to the next. Interpolated values have the
/// error of the method's continuous extension (order 4 for dopri5 and tsit5, 5 for dopri8, 3 for
/// others), which at loose tolerances is near the solve's own. Throws what the adaptive `integrate`
/// throws, and OptionError for fewer than two times or times out of order.
template <class S, State X, System<X> F, Observer<X> O, StepController C = PIDController,
          class Norm = StateNorm>
requires ErrorStepper<S, X> Statistics integrate_times(const S& stepper, F&& f, X& x,
                                                       const std::vector<double>& times,
                                                       const AdaptiveOptions& options, O&& observer,
                                                       Output output = Output::dense,
                                                       C controller = {}, const Norm& norm = {}) {
  options.validate();
  TimeGrid::nodes(times);  // throws unless there are two or more, in order
  const double direction = times.back() > times.front() ? 1 : -1;
  std::size_t next = 1;
  const auto visit = [&](const auto& step) {
    for (; next < times.size() && direction * (step.t1 - times[next]) >= 0; ++next) {
      if (!detail::go_on(observer, times[next], step.at(times[next]))) {
        return detail::Verdict{Status::stopped, times[next]};
      }
    }
    return detail::Verdict{};
  };
  std::vector<double> cuts = detail::cuts(times.front(), times.back(), options.jumps);
  if (output == Output::cut) {
    cuts.insert(cuts.end(), times.begin() + 1, times.end());
    cuts = detail::cuts(times.front(), times.back(), cuts);
  }
  const bool jumping = output == Output::dense || !options.jumps.empty();
  return detail::adapt(stepper, f, x, times.front(), cuts, jumping, options, visit, controller,
                       norm);
}

}}}  // namespace flowmatch::ode
