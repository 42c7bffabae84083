#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>

#include "flowmatch/core/random.hpp"
#include "flowmatch/ode/control.hpp"
#include "flowmatch/ode/grid.hpp"
#include "flowmatch/ode/statistics.hpp"

namespace flowmatch { inline namespace v0 {

/// Nodes of a fixed-step method.
using TimeGrid = ode::TimeGrid;
/// Tolerances of an adaptive one.
using AdaptiveOptions = ode::AdaptiveOptions;

/// What a sampling observer hears after each step.
struct SampleStep {
  double t;              ///< time reached
  const at::Tensor& x;   ///< [b, …] there; a copy of the handle keeps this value
  std::int64_t first;    ///< of these b samples among all
  std::int64_t samples;  ///< all that were asked for
  std::int64_t step;     ///< steps made for these b samples
  std::int64_t steps;    ///< that they take in all; 0 for adaptive methods
};

/// Options of `Sampler`.
struct SamplerOptions {
  std::int64_t batch_size = 0;  ///< samples that go through the model together; 0: all
  /// On the CPU, true: batches side by side, one on each of LibTorch's threads, instead of each
  /// operation on all threads; small networks gain most. A batch_size of 0 then means an equal
  /// share for each thread. The model must bear calls from several threads, as a module in
  /// evaluation mode does. Unset: each evaluation of a batch that is large enough is done in parts,
  /// one a thread, where that is sure to mean the same, as for `TrainOptions::parallel`; batches,
  /// steps and what an observer hears are as with false, where nothing is.
  std::optional<bool> parallel{};
  /// Above 0: the method goes to 1 - final_step only, and one step of Euler's from there to 1. Near
  /// t = 1 a learned velocity knows x_0 no longer and its error is largest; Euler's step evaluates
  /// it before that, where other methods' stages come to t = 1 (Karras et al. 2022 end Heun's
  /// method so). A TimeGrid has to end at 1 - final_step.
  double final_step = 0;
  /// Draws x_0 of a shape for `sample`, where the model's source is not N(0, I).
  std::function<at::Tensor(at::IntArrayRef, Rng&)> source{};
  std::function<bool(const SampleStep&)> observer{};  ///< returns false to stop; one call at a time
  std::stop_token stop{};                             ///< asked after each step
};

/// Samples and what they took.
struct SampleResult {
  at::Tensor x;                ///< [B, …] at the end, or where sampling was stopped
  ode::Statistics statistics;  ///< what it took
};

}}  // namespace flowmatch
