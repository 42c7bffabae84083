#pragma once

#include <vector>

#include "flowmatch/ode/integrate.hpp"

namespace flowmatch::inline v0::ode {

/// Advances x from times.front() to times.back(), which must rise or fall all the way, with steps
/// as large as the tolerance allows, cut to end at each of the times. The observer hears of x at
/// each time but the first, and not of the steps between. It is one solve: step size and first
/// stage carry over from one time to the next, so that however many times there are it takes 2 +
/// stages (accepted + rejected) evaluations. Throws what the adaptive `integrate` throws, and
/// OptionError for fewer than two times or times out of order.
template <class S, State X, System<X> F, Observer<X> O, StepController C = IntegralController>
requires ErrorStepper<S, X> Statistics integrate_times(const S& stepper, F&& f, X& x,
                                                       const std::vector<double>& times,
                                                       const AdaptiveOptions& options, O&& observer,
                                                       C controller = {}) {
  options.validate();
  TimeGrid::nodes(times);  // throws unless there are two or more, in order
  NoObserver on_step;
  return detail::adapt(stepper, f, x, times, options, on_step, observer, controller);
}

}  // namespace flowmatch::inline v0::ode
