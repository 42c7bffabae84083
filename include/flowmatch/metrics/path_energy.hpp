#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"

namespace flowmatch { inline namespace v0 {

/// How far samples went on their way, and how straight they went.
struct PathEnergy {
  /// ∫ E ‖v‖² dt, at least W_2² of start and end, which optimal transport comes to (Benamou &
  /// Brenier 2000).
  double energy = 0;
  /// ∫ E ‖(x_1 - x_0) / (t_1 - t_0) - v‖² dt: 0 for straight lines at an even pace, along which one
  /// step of Euler's is exact (Liu et al. 2023, eq. 5).
  double straightness = 0;
};

/// The path energy and straightness of a Sampler's trajectory [N + 1, B, …], whose points stand at
/// the `times` t_0, …, t_N, with v = (x_{i+1} - x_i) / (t_{i+1} - t_i) between two of them: exact
/// for Euler's method, a lower bound for others. Norms are summed over all but the first two
/// dimensions. Throws ShapeError where points and times do not fit, OptionError for times that do
/// not rise or fall all the way, DataError for no samples, for NaN and infinity.
inline PathEnergy path_energy(const at::Tensor& trajectory, const std::vector<double>& times) {
  if (!trajectory.defined() || trajectory.dim() < 2 || trajectory.size(0) < 2 ||
      !trajectory.is_floating_point() ||
      trajectory.size(0) != static_cast<std::int64_t>(times.size())) {
    throw ShapeError(
        "a trajectory has points [N + 1, B, …] at N + 1 times, with N at least 1; got " +
        shape_text(trajectory) + " and " + std::to_string(times.size()) + " times");
  }
  if (trajectory.size(1) == 0)
    throw DataError("the trajectory is of no samples; give at least one");
  const at::Tensor x = trajectory.detach().to(at::kDouble).flatten(1);
  const at::Tensor way = at::tensor(times, at::TensorOptions(at::kDouble)).diff();
  if (!((way > 0).all().item<bool>() || (way < 0).all().item<bool>()))
    throw OptionError("the times of a trajectory have to rise or fall all the way");
  const at::Tensor steps = way.abs().to(trajectory.device());
  const auto samples = static_cast<double>(trajectory.size(1));
  const double whole = std::abs(times.back() - times.front());
  const at::Tensor moves = x.diff(1, 0);
  const at::Tensor straight = steps.unsqueeze(1) * ((x[-1] - x[0]) / whole).unsqueeze(0);
  const auto over_time = [&](const at::Tensor& each) {
    return (each.square().sum(1) / steps).sum().item<double>() / samples;
  };
  const PathEnergy result{over_time(moves), over_time(moves - straight)};
  if (!std::isfinite(result.energy)) throw DataError("the trajectory holds NaN or infinity");
  return result;
}

}}  // namespace flowmatch
