#include "flowmatch/metrics/path_energy.hpp"

#include "tests/support/test.hpp"

TEST_CASE("path_energy: straight lines have the energy of their length and no other") {
  const at::Tensor x_0 = on_device::randn({50, 3, 2}, torch::kDouble);
  const at::Tensor way = on_device::randn({50, 3, 2}, torch::kDouble);
  const std::vector<double> times = {0, 0.1, 0.4, 1};
  std::vector<at::Tensor> points;
  for (const double t : times) points.push_back(x_0 + t * way);
  const fm::PathEnergy e = fm::path_energy(at::stack(points), times);
  CHECK(e.energy == Approx(way.square().sum().item<double>() / 50).epsilon(1e-12));
  CHECK(e.straightness == Approx(0).margin(1e-20));
}

TEST_CASE("path_energy: half a circle, and a pause on a straight way") {
  // A radius of 2 at an even pace: the energy is (2 pi)^2, and 4^2 less without its chord.
  constexpr std::int64_t steps = 2000;
  const double pi = std::acos(-1.0);
  std::vector<double> times;
  for (std::int64_t i = 0; i <= steps; ++i)
    times.push_back(static_cast<double>(i) / static_cast<double>(steps));
  const at::Tensor angle = pi * on_device::tensor(times, torch::kDouble);
  const at::Tensor circle = 2 * at::stack({angle.cos(), angle.sin()}, 1).unsqueeze(1);
  const fm::PathEnergy e = fm::path_energy(circle, times);
  CHECK(e.energy == Approx(4 * pi * pi).epsilon(1e-5));
  CHECK(e.straightness == Approx(4 * pi * pi - 16).epsilon(1e-5));

  // From 1 to 4 in time: half of it stands still, the other half goes 6 at twice the pace.
  const at::Tensor pause = on_device::tensor({0., 0., 6.}, torch::kFloat).view({3, 1, 1});
  const fm::PathEnergy p = fm::path_energy(pause, {1, 2.5, 4});
  CHECK(p.energy == Approx(36 / 1.5));
  CHECK(p.straightness == Approx(36 / 1.5 - 36 / 3.));
  const fm::PathEnergy back = fm::path_energy(pause.flip(0), {4, 2.5, 1});
  CHECK(back.energy == Approx(p.energy));
  CHECK(back.straightness == Approx(p.straightness));
}

TEST_CASE("path_energy: what is no trajectory is refused") {
  const at::Tensor three = on_device::zeros({3, 4, 2});
  require_error<fm::ShapeError>([&] { fm::path_energy(three, {0, 1}); }, "2 times");
  require_error<fm::ShapeError>(
      [&] {
        fm::path_energy(on_device::zeros({3}), {0, 0.5, 1});
      },
      "[N + 1, B, …]");
  require_error<fm::ShapeError>([&] { fm::path_energy({}, {}); }, "N at least 1");
  require_error<fm::ShapeError>(
      [&] {
        fm::path_energy(on_device::zeros({2, 1}, torch::kLong), {0, 1});
      },
      "trajectory");
  for (const std::vector<double>& standing : {std::vector<double>{0, 1, 1}, {1, 0, 0}}) {
    require_error<fm::OptionError>([&] { fm::path_energy(three, standing); },
                                   "rise or fall all the way");
  }
  require_error<fm::OptionError>(
      [&] {
        fm::path_energy(three, {0, nan_value, 1});
      },
      "rise or fall all the way");
  require_error<fm::DataError>(
      [&] {
        fm::path_energy(on_device::zeros({2, 0, 3}), {0, 1});
      },
      "no samples");
  require_error<fm::DataError>(
      [&] {
        fm::path_energy(three + infinity, {0, 0.5, 1});
      },
      "NaN or infinity");
}
