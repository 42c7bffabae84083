#include "flowmatch/sample/noise_levels.hpp"

#include <limits>

#include "tests/support/test.hpp"

namespace {

void check_levels(const fm::NoiseLevels& levels, const std::vector<double>& expected) {
  REQUIRE(levels.sigmas().size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    CHECK(levels.sigmas()[i] == Approx(expected[i]).epsilon(2e-6));  // theirs are float32
}

}  // namespace

TEST_CASE("noise_levels: they are those of diffusers 0.42.1") {
  // FlowMatchEulerDiscreteScheduler, set_timesteps(6).
  check_levels(fm::NoiseLevels::linear(6),
               {1.0, 0.8001999855, 0.600399971, 0.4005999863, 0.2008000016, 0.001});
  check_levels(fm::NoiseLevels::karras(6),
               {1.0, 0.3912902474, 0.1323712913, 0.0366955921, 0.0076185414, 0.001});
  check_levels(fm::NoiseLevels::exponential(6),
               {1.0, 0.2511886358, 0.0630957335, 0.0158489328, 0.0039810720, 0.001});
  check_levels(fm::NoiseLevels::beta(6),
               {1.0, 0.8772011995, 0.6376616955, 0.3633382915, 0.1237987983, 0.001});
  check_levels(fm::NoiseLevels::linear(6).stretched(0.1),
               {1.0, 0.8199999928, 0.6399999857, 0.4600000083, 0.2800000012, 0.1});
  // use_dynamic_shifting, mu = 1.
  check_levels(fm::NoiseLevels::linear(6).shifted(std::exp(1.0)),
               {1.0, 0.9158725739, 0.8033131957, 0.644977510, 0.4058129489, 0.0027136193});
  // There a fixed shift is applied to the lowest level twice: 0.0089 for 0.0030.
  CHECK(fm::NoiseLevels::linear(6).shifted(3).sigmas().back() == Approx(0.003 / 1.002));
  // k-diffusion: exp(linspace(1, 0, n)^rho (log max - log min) + log min).
  check_levels(fm::NoiseLevels::polyexponential(3, 0.01, 1, 2),
               {1.0, std::exp(0.25 * std::log(100.0) + std::log(0.01)), 0.01});
  CHECK(fm::dynamic_shift(256) == Approx(std::exp(0.5)));
  CHECK(fm::dynamic_shift(4096) == Approx(std::exp(1.15)));
}

TEST_CASE("noise_levels: quantiles of beta distributions are scipy's") {
  CHECK(fm::detail::beta_quantile(0.1, 0.6, 0.6) == Approx(0.03958440558878).epsilon(1e-10));
  CHECK(fm::detail::beta_quantile(0.25, 2, 5) == Approx(0.16116291679032).epsilon(1e-10));
  CHECK(fm::detail::beta_quantile(0.9, 0.5, 3) == Approx(0.38624888180537).epsilon(1e-10));
  CHECK(fm::detail::beta_quantile(0.5, 50, 50) == Approx(0.5).epsilon(1e-12));
  CHECK(fm::detail::beta_quantile(0, 2, 5) == 0);
  CHECK(fm::detail::beta_quantile(1, 2, 5) == 1);
}

TEST_CASE("noise_levels: the grid goes from the first to the data within [0, 1]") {
  for (const int n : {1, 2, 50}) {
    for (const auto& levels : {fm::NoiseLevels::linear(n), fm::NoiseLevels::karras(n),
                               fm::NoiseLevels::beta(n), fm::NoiseLevels::linear(n).shifted(7)}) {
      const fm::ode::TimeGrid grid = levels.grid();
      REQUIRE(grid.steps().size() == static_cast<std::size_t>(n));
      CHECK(grid.t0() == 0);
      CHECK(grid.t1() == 1);
      for (const auto& step : grid.steps()) CHECK(step.dt > 0);
    }
  }
  const fm::ode::TimeGrid own = fm::NoiseLevels::of({0.9, 0.5, 0.25}).grid();
  CHECK(own.t0() == Approx(0.1));
  CHECK(own.steps()[1].t == 0.5);
}

TEST_CASE("noise_levels: stretched, the last one is the number asked for, to its last digit") {
  for (int i = 1; i < 100; ++i) {
    const double terminal = i / 100.0;
    CHECK(fm::NoiseLevels::linear(7, 0.013).stretched(terminal).sigmas().back() == terminal);
  }
}

TEST_CASE("noise_levels: what is no schedule is refused") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  using Levels = fm::NoiseLevels;
  for (const std::vector<double>& wrong : {std::vector<double>{0.5, 0.5},
                                           {0.5, 0.7},
                                           {1.1, 0.5},
                                           {0.5, 0.0},
                                           {0.5, -0.1},
                                           {nan},
                                           {0.5, nan}}) {
    require_error<fm::OptionError>([&] { Levels::of(wrong); }, "fall all the way");
  }
  require_error<fm::OptionError>([] { Levels::of({}); }, "no noise levels");
  require_error<fm::OptionError>([] { Levels::linear(0); }, "at least 1");
  require_error<fm::OptionError>([] { Levels::linear(5, 0); }, "0 < min");
  require_error<fm::OptionError>([] { Levels::karras(5, 0.1, 2); }, "max <= 1");
  require_error<fm::OptionError>([] { Levels::karras(5, 0.1, 1, 0); }, "rho");
  require_error<fm::OptionError>([&] { Levels::beta(5, 0.1, 1, nan); }, "above 0");
  require_error<fm::OptionError>([] { Levels::linear(5).shifted(3).shifted(2); }, "already");
  require_error<fm::OptionError>([] { Levels::linear(5).shifted(3).stretched(0.1).shifted(2); },
                                 "already");
  require_error<fm::OptionError>([] { Levels::linear(5).shifted(0); }, "above 0");
  require_error<fm::OptionError>([] { Levels::linear(5).stretched(1); }, "(0, 1)");
  require_error<fm::OptionError>([] { Levels::of({1}).stretched(0.5); }, "(0, 1)");
  require_error<fm::OptionError>([] { fm::dynamic_shift(0); }, "tokens");
}
