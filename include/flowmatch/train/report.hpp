#pragma once

#include <cstdint>

#include "flowmatch/checkpoint/position.hpp"
#include "flowmatch/monitor/pace.hpp"

namespace flowmatch { inline namespace v0 {

/// What a StepReport and an EpochReport have in common, of a run of `total_steps` in so many
/// `epochs` that stands at `position`, at the `pace` of the call to fit.
template <class Report>
Report report_at(const Position& position, std::int64_t total_steps, std::int64_t epochs,
                 const Pace& pace) {
  Report report;
  report.step = position.step;
  report.total_steps = total_steps;
  report.epoch = position.epoch;
  report.epochs = epochs;
  report.seconds = pace.seconds();
  report.samples_per_second = pace.samples_per_second(report.seconds);
  return report;
}

}}  // namespace flowmatch
