#include "flowmatch/sample/dpm_solver.hpp"

#include <array>
#include <cmath>
#include <limits>

#include "flowmatch/sample/sampler.hpp"
#include "tests/support/gaussian_flow.hpp"
#include "tests/support/test.hpp"

namespace {

using gaussian_flow::flow;
using gaussian_flow::noise;

/// Samples of the Gaussian flow from the same noise.
template <int Order>
at::Tensor drawn(double eta, std::int64_t steps, std::uint64_t seed = 3, double shift = 1) {
  fm::Rng rng(seed, test_device());
  return fm::Sampler(flow, fm::DpmSolver<Order>(eta), fm::TimeGrid::shifted(steps, shift))
      .sample_from(noise(), rng);
}

/// How far samples without fresh noise end from where the flow takes them.
template <int Order>
double distance(std::int64_t steps) {
  const at::Tensor end = gaussian_flow::mu + gaussian_flow::s * noise();
  const at::Tensor x = drawn<Order>(0, steps);
  return (x - end).abs().mean().item<double>();
}

template <int Order>
double spread_error(std::int64_t steps) {
  const at::Tensor x = drawn<Order>(1, steps);
  return std::abs(x.std().item<double>() - gaussian_flow::s);
}

}  // namespace

TEST_CASE("dpm_solver: of order 1 and without fresh noise it is Euler's method") {
  const at::Tensor euler =
      fm::Sampler(flow, fm::ode::Euler{}, fm::TimeGrid::uniform(7)).sample_from(noise());
  CHECK(close(drawn<1>(0, 7), euler, 0, 1e-12));
}

TEST_CASE("dpm_solver: without fresh noise it converges with its order") {
  // Steps of lambda stay long beside t = 0, so order 2 shows late.
  CHECK(distance<1>(320) / distance<1>(640) == Approx(2).epsilon(0.05));
  CHECK(distance<2>(320) / distance<2>(640) == Approx(4).epsilon(0.15));
  CHECK(distance<2>(20) < distance<1>(20) / 4);
  CHECK(distance<3>(320) / distance<3>(640) > 3.5);
  CHECK(distance<3>(80) < 0.6 * distance<2>(80));
}

TEST_CASE("dpm_solver: a step of order 2 is the published formula") {
  // x_1 is linear in lambda = log(t / (1 - t)) where it is a constant plus that: the third step's
  // value in its middle is known.
  const auto lambda = [](double t) { return std::log(t / (1 - t)); };
  const auto velocity = [&](const at::Tensor& x, const at::Tensor& t) {
    const double now = t[0].item<double>();
    return ((now > 0 ? 2 + 0.5 * lambda(now) : 0) - x) / (1 - now);
  };
  const std::vector<double> times = {0, 0.2, 0.5, 0.6, 1};
  std::vector<at::Tensor> points;
  fm::SamplerOptions options;
  options.observer = [&](const fm::SampleStep& s) { return points.push_back(s.x.clone()), true; };
  fm::Rng rng(1, test_device());
  fm::Sampler(velocity, fm::DpmSolver<2>(0), fm::TimeGrid::nodes(times), options)
      .sample_from(noise(3), rng);
  const double h = lambda(0.6) - lambda(0.5);
  const double middle = 2 + 0.5 * (lambda(0.5) + h / 2);
  const at::Tensor expected = 0.4 / 0.5 * points[1] - 0.6 * std::expm1(-h) * middle;
  CHECK(close(points[2], expected, 0, 1e-12));
}

TEST_CASE("dpm_solver: with fresh noise samples have the data's distribution") {
  for (const double eta : {0.5, 1.0}) {
    for (const at::Tensor& x : {drawn<1>(eta, 200), drawn<2>(eta, 50), drawn<2>(eta, 50, 4, 2)}) {
      CHECK(x.mean().item<double>() == Approx(gaussian_flow::mu).margin(0.02));
      CHECK(x.std().item<double>() == Approx(gaussian_flow::s).margin(0.02));
      CHECK_FALSE(close(x, drawn<1>(0, 200), 0, 0.1));
    }
  }
  CHECK(spread_error<2>(10) < spread_error<1>(10) / 3);
}

TEST_CASE("dpm_solver: the last step adds no noise, and the seed decides the rest") {
  CHECK(at::equal(drawn<2>(1, 1, 3), drawn<2>(1, 1, 4)));
  CHECK(at::equal(drawn<2>(1, 5, 3), drawn<2>(1, 5, 3)));
  CHECK_FALSE(at::equal(drawn<2>(1, 5, 3), drawn<2>(1, 5, 4)));
}

TEST_CASE("dpm_solver: options and directions that cannot be are an OptionError") {
  for (const double eta : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()})
    require_error<fm::OptionError>([&] { fm::DpmSolver<2>{eta}; }, "choose one in");
  fm::Rng rng(1, test_device());
  fm::Sampler back(flow, fm::DpmSolver<2>{}, fm::TimeGrid::uniform(3, 1, 0));
  require_error<fm::OptionError>(
      [&] {
        back.sample_from(on_device::zeros({2, 1}, torch::kDouble), rng);
      },
      "from noise at 0 to data at 1");
  for (const std::vector<double>& times : {std::vector<double>{-0.1, 0.5}, {0.5, 1.1}}) {
    fm::Sampler outside(flow, fm::DpmSolver<2>{}, fm::TimeGrid::nodes(times));
    require_error<fm::OptionError>(
        [&] {
          outside.sample_from(on_device::zeros({2, 1}, torch::kDouble), rng);
        },
        "from noise at 0 to data at 1");
  }
  const double zero = 0.3 - 3 * 0.1, one = 0.1 + 0.2 + 0.7;  // but for roundings
  fm::Sampler typed(flow, fm::DpmSolver<2>{}, fm::TimeGrid::nodes({zero, 0.5, one}));
  CHECK(typed.sample_from(on_device::zeros({2, 1}), rng).isfinite().all().item<bool>());
  fm::Sampler post(flow, fm::DpmSolver<1>{}, fm::TimeGrid::post(3));
  require_error<fm::OptionError>(
      [&] {
        post.sample_from(on_device::zeros({2, 1}, torch::kDouble), rng);
      },
      "for euler only, not dpm_solver_1");
}

TEST_CASE("dpm_solver: what is under its roots is no rounding error below 0, on any grid and eta") {
  const at::Tensor start = on_device::ones({2, 1});
  for (const double eta : {0.0, 0.3, 0.999999, 1.0}) {
    for (const double shift : {0.3, 1.0, 5.0}) {
      for (std::int64_t n = 1; n <= 60; ++n) {
        fm::Rng rng(1, test_device());
        fm::Sampler whole(flow, fm::DpmSolver<2>{eta}, fm::TimeGrid::shifted(n, shift));
        REQUIRE(whole.sample_from(start, rng).isfinite().all().item<bool>());
      }
    }
  }
}

TEST_CASE("dpm_solver: it steps states of the standard library, too") {
  const auto velocity = [](const std::array<double, 2>& x, double t) {
    return std::array<double, 2>{(0.5 - x[0]) / (1 - t), (-2 - x[1]) / (1 - t)};
  };
  const auto noise = [](const std::array<double, 2>&) { return std::array<double, 2>{1, -1}; };
  std::array<double, 2> x = {3, 4};
  static_assert(fm::ode::StochasticStepper<fm::DpmSolver<2>, std::array<double, 2>>);
  static_assert(!fm::ode::Stepper<fm::DpmSolver<2>, std::array<double, 2>>);
  static_assert(!fm::ode::StochasticStepper<fm::ode::Euler, at::Tensor>);
  fm::ode::integrate(fm::DpmSolver<2>{}, velocity, x, fm::TimeGrid::uniform(1, 0, 0.5), noise);
  CHECK(x[0] == Approx(0.5 * 0.5 + 0.5));  // from t = 0 the old noise goes: s x_1 + (1 - s) z
  CHECK(x[1] == Approx(0.5 * -2 - 0.5));
  fm::ode::integrate(fm::DpmSolver<2>{}, velocity, x, fm::TimeGrid::uniform(3, 0.5), noise);
  CHECK(x[0] == Approx(0.5));
  CHECK(x[1] == Approx(-2));
}

TEST_CASE("dpm_solver: grids that were added up, and that stop beside the data, are as right") {
  const auto spread = [](const fm::TimeGrid& grid, double eta) {
    fm::Rng rng(3, test_device());
    const at::Tensor x = fm::Sampler(flow, fm::DpmSolver<2>{eta}, grid).sample_from(noise(), rng);
    return x.std().item<double>();
  };
  for (const double eta : {0.0, 1.0}) {
    const double typed = spread(fm::TimeGrid::uniform(10), eta);
    for (const double start : {0.0, 0.3 - 3 * 0.1, 1e-17}) {
      std::vector<double> times{start};
      for (int i = 1; i <= 10; ++i) times.push_back(times.back() + 0.1);
      REQUIRE(times.back() < 1);
      CHECK(spread(fm::TimeGrid::nodes(times), eta) == Approx(typed).epsilon(1e-9));
    }
    for (const double end : {0.99, 0.999, 1 - 1e-5, 1 - 1e-9}) {
      CHECK(spread(fm::TimeGrid::uniform(20, 0, end), eta) ==
            Approx(gaussian_flow::s).epsilon(0.15));
    }
  }
  CHECK_NOTHROW(fm::DpmSolver<2>{1.0000000000000007});  // 0.01 added up a hundred times
  CHECK_THROWS_AS(fm::DpmSolver<2>{1.0001}, fm::OptionError);
}

TEST_CASE("dpm_solver: a step of order 3 is k-diffusion's") {
  // sample_dpmpp_3m_sde of one number, in its own terms: x / t has noise of sigma = (1 - t) / t.
  const std::vector<double> times = {0.2, 0.3, 0.45, 0.6}, denoised = {1.0, 1.3, 1.1};
  for (const double eta : {0.0, 1.0}) {
    double x = 2;
    std::vector<double> h_before, d_before;
    for (std::size_t i = 0; i < 3; ++i) {
      const double sigma = (1 - times[i]) / times[i], next = (1 - times[i + 1]) / times[i + 1];
      const double h = std::log(sigma / next), h_eta = h * (eta + 1), d = denoised[i];
      double y = x / times[i] * std::exp(-h_eta) - std::expm1(-h_eta) * d;
      const double phi_2 = std::expm1(-h_eta) / h_eta + 1, phi_3 = phi_2 / h_eta - 0.5;
      if (i == 1) y -= -phi_2 * (d - d_before[0]) / (h_before[0] / h);
      if (i == 2) {
        const double r0 = h_before[1] / h, r1 = h_before[0] / h;
        const double d1_0 = (d - d_before[1]) / r0, d1_1 = (d_before[1] - d_before[0]) / r1;
        y += phi_2 * (d1_0 + (d1_0 - d1_1) * r0 / (r0 + r1)) - phi_3 * (d1_0 - d1_1) / (r0 + r1);
      }
      // Theirs has phi_2 in the second step, too, ours the midpoint: so the third is compared.
      if (i == 2) {
        fm::ode::Workspace<double> w;
        double state = 0;
        const auto none = [](double) { return 0.0; };
        for (std::size_t j = 0; j < 3; ++j) {
          state = j == 2 ? x : 1;  // what comes before goes in by its predictions alone
          const auto v = [&](double at, double t) { return (denoised[j] - at) / (1 - t); };
          fm::DpmSolver<3>(eta).step(v, w, state, times[j], times[j + 1] - times[j], none);
        }
        CHECK(state == Approx(y * times[3]).epsilon(1e-12));
      }
      x = y * times[i + 1];
      h_before.push_back(h);
      d_before.push_back(d);
    }
  }
}
