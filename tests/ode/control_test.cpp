#include "flowmatch/ode/control.hpp"

#include <cmath>

#include "tests/support/test_std.hpp"

namespace ode = flowmatch::ode;

TEST_CASE("control: the integral rule follows its formula within its limits") {
  ode::PIDController control;
  static_assert(ode::StepController<ode::PIDController>);
  static_assert(!ode::StepController<double>);
  CHECK(control(0.5, 5).accept);
  CHECK(control(0.5, 5).factor == Approx(0.9 * std::pow(0.5, -0.2)));
  CHECK_FALSE(control(2, 5).accept);
  CHECK(control(2, 5).factor == Approx(0.9 * std::pow(2, -0.2)));
  CHECK(control(1, 5).accept);
  CHECK(control(1, 5).factor == 1);       // an accepted step never shrinks the next
  CHECK(control(1e12, 5).factor == 0.2);  // min_factor
  CHECK(control(1e-12, 5).factor == 10);  // max_factor
  CHECK(control(0, 5).factor == 10);
}

TEST_CASE("control: the PI rule remembers the last error") {
  ode::PIDController control = ode::pi_controller();
  const double first = control(0.5, 5).factor;
  CHECK(first == Approx(0.9 * std::pow(0.5, -0.14)));
  const double second = control(0.5, 5).factor;
  CHECK(second == Approx(0.9 * std::pow(0.5, -0.14) * std::pow(0.5, 0.08)));
  CHECK_FALSE(control(3, 5).accept);
  CHECK(control(3, 5).factor < 1);
  CHECK(control(0, 5).accept);
}

TEST_CASE("control: the PI rule keeps its memory over a rejection and may shrink accepted steps") {
  ode::PIDController control = ode::pi_controller();
  control(0.25, 4);
  CHECK_FALSE(control(16, 4).accept);
  CHECK(control(16, 4).factor == Approx(0.9 * std::pow(16, -0.25)));
  CHECK(control(1e30, 4).factor == 0.2);
  // Still the 0.25 from before the rejections, not 16.
  const ode::StepDecision after = control(1, 4);
  CHECK(after.accept);
  CHECK(after.factor == Approx(0.9 * std::pow(0.25, 0.1)));
  CHECK(after.factor < 1);
  CHECK(control(0, 4).factor == 10);
  CHECK(control.previous == 1e-4);
}

TEST_CASE("control: rules refuse an error that is not a number") {
  CHECK_FALSE(ode::PIDController{}(std::nan(""), 5).accept);
  ode::PIDController control = ode::pi_controller();
  CHECK_FALSE(control(std::nan(""), 5).accept);
  CHECK(control.previous == 1);
}

TEST_CASE("control: the PID rule follows its formula") {
  ode::PIDController control{
      .proportional = 0.2, .integral = 0.4, .derivative = 0.1, .min_factor_accepted = 0.2};
  control(0.3, 4);
  control(0.6, 4);
  CHECK(control(0.9, 4).factor ==
        Approx(0.9 * std::pow(0.9, -0.7 / 4) * std::pow(0.6, 0.4 / 4) * std::pow(0.3, -0.1 / 4)));
}

TEST_CASE("control: the PID rule's first steps have no errors before them") {
  ode::PIDController control{
      .proportional = 0.2, .integral = 0.4, .derivative = 0.1, .min_factor_accepted = 0.2};
  CHECK(control(0.3, 4).factor == Approx(0.9 * std::pow(0.3, -0.7 / 4)));
  CHECK(control(0.6, 4).factor == Approx(0.9 * std::pow(0.6, -0.7 / 4) * std::pow(0.3, 0.4 / 4)));
}

TEST_CASE("control: a first step size follows its rule") {
  using ode::detail::first_step_size;
  using ode::detail::trial_step;
  CHECK(trial_step(1, 2, 10) == Approx(0.005).epsilon(1e-14));
  CHECK(trial_step(1, 2, 1e-3) == 1e-3);  // no longer than the interval
  CHECK(trial_step(0, 2, 10) == 1e-6);
  CHECK(trial_step(2, 0, 10) == 1e-6);
  CHECK(trial_step(2e-5, 2e-5, 10) == Approx(0.01).epsilon(1e-14));
  CHECK(first_step_size(0.5, 0.1, 1, 2, 10) == Approx(std::sqrt(0.02)).epsilon(1e-14));
  CHECK(first_step_size(0.1, 0.5, 1, 5, 10) == Approx(std::pow(0.02, 0.2)).epsilon(1e-14));
  CHECK(first_step_size(0, 0, 0.5, 5, 10) == Approx(5e-4).epsilon(1e-14));
  CHECK(first_step_size(0, 0, 1e-5, 5, 10) == 1e-6);
  CHECK(first_step_size(1e-9, 1e-9, 1e-3, 1, 10) == Approx(0.1).epsilon(1e-14));  // 100 h0
  CHECK(first_step_size(1e-9, 1e-9, 10, 1, 7) == 7);
}

TEST_CASE("control: a step goes all the way where that makes it at most 1 % longer") {
  using ode::detail::arrives;
  const double inf = infinity;
  CHECK(arrives(0.9, 1, inf));
  CHECK(arrives(1.009, 1, inf));
  CHECK_FALSE(arrives(1.011, 1, inf));
  CHECK(arrives(1 + 1e-13, 1, 1));  // max_step holds to rounding
  CHECK_FALSE(arrives(1.001, 1, 1));
  CHECK_FALSE(arrives(1.5, 2, 1));
}
