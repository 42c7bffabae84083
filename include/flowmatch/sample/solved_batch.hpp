#pragma once

#include <ATen/Functions.h>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/ode/statistics.hpp"
#include "flowmatch/sample/options.hpp"

namespace flowmatch { inline namespace v0 { namespace detail {

/// What became of one batch.
struct SolvedBatch {
  at::Tensor x;
  ode::Statistics statistics;
  std::vector<at::Tensor> points{};  // x_0 and x after each step, if they are asked for
};

/// Where only the samples are asked for, nothing else tells that they are not at their end.
inline at::Tensor whole(SampleResult result) {
  if (result.statistics.status == ode::Status::step_limit) {
    throw SolverError(
        "the step limit is used up before the samples are at their end; raise max_steps or the "
        "tolerances, or call solve, whose statistics tell of it",
        std::numeric_limits<double>::quiet_NaN(), result.statistics.smallest_step,
        result.statistics.evaluations);
  }
  return std::move(result.x);
}
inline SampleResult joined(std::vector<SolvedBatch> parts) {
  SampleResult result;
  std::vector<at::Tensor> ends;
  for (SolvedBatch& part : parts) {
    ends.push_back(std::move(part.x));
    result.statistics += part.statistics;
  }
  result.x = ends.size() == 1 ? ends.front() : at::cat(ends);
  return result;
}
/// Their points [steps + 1, B, …]: a batch that made fewer steps than others stays where it ended.
inline at::Tensor joined_points(const std::vector<SolvedBatch>& parts) {
  std::size_t length = 0;
  for (const SolvedBatch& part : parts) length = std::max(length, part.points.size());
  std::vector<at::Tensor> paths;
  for (const SolvedBatch& part : parts) {
    std::vector<at::Tensor> points = part.points;
    points.resize(length, points.back());
    paths.push_back(at::stack(points));
  }
  return at::cat(paths, 1);
}

}}}  // namespace flowmatch::detail
