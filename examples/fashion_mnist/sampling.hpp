#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "examples/fashion_mnist/recipe.hpp"
#include "examples/fashion_mnist/unet.hpp"
#include "flowmatch/core/random.hpp"

namespace fashion_mnist {

/// A trained network and what it was trained to predict.
struct TrainedModel {
  Recipe recipe;
  UNet net{nullptr};
};

/// Guidance (docs/guidance.md): classifier-free, of runs that were trained with labels dropped, or
/// away from a worse run.
struct GuidanceOptions {
  double scale = 1;            ///< 1: the run as it is, 0: the worse one, or no label
  std::string rule = "plain";  ///< plain | zero_star | projected
  double from = 0, to = 1;     ///< the times of guidance
};

/// How to sample.
struct SamplingOptions {
  std::string solver;  ///< a method of the library, ddim, ddim_fair or flow_map; empty: `solver_of`
  std::int64_t steps = 100;  ///< of fixed-step methods
  double rtol = 1e-3;        ///< of adaptive methods
  double atol = 1e-3;
  std::string grid = "uniform";  ///< uniform | post | karras | exponential | beta
  double shift = 1;              ///< of the uniform grid: above 1 its steps shrink towards the data
  double last_step = 0;          ///< a last step of Euler's, of this size, after the method's own
  double eta = 1;                ///< of DDIM, dpm_solver_1 to 3 and ancestral_euler
  std::int64_t batch = 256;
  std::uint64_t seed = 42;
  std::optional<GuidanceOptions> guidance{};
  std::optional<TrainedModel> worse{};  ///< that guidance leads away from
  /// Hears of x [b, 1, H, W] after each step; `step` counts over all batches, `steps` is 0 where
  /// unknown.
  std::function<bool(const at::Tensor& x, std::int64_t step, std::int64_t steps)> observer{};
};

struct Samples {
  at::Tensor images;             ///< float32 [N, 1, 28, 28] in [-1, 1], on the CPU
  std::int64_t evaluations = 0;  ///< of the network, for one sample
};

/// Loads a run's newest checkpoint (of its end, where it has come so far), or a folder that is one.
/// `averaged`: the EMA weights; default: if there are. Throws CheckpointError where there is none,
/// OptionError for averaged weights that were not kept.
TrainedModel load_model(const std::filesystem::path& path, std::optional<bool> averaged,
                        c10::Device device);

/// The same with its EMA weights if there are any, of a run that works beside another of such
/// pixels. Throws OptionError where its own are others.
TrainedModel load_alike(const std::filesystem::path& path, const Pixels& pixels,
                        c10::Device device);

/// A flow and the DDIM that it is compared with.
struct Pair {
  TrainedModel flow;
  TrainedModel ddim;
};

/// Loads both, with their EMA weights if there are any. Throws as `load_model` does, and
/// OptionError where a run is of the other method or the two are of different networks.
Pair load_pair(const std::filesystem::path& flow, const std::filesystem::path& ddim,
               c10::Device device);

using Velocity =
    std::function<at::Tensor(const at::Tensor& x, const at::Tensor& t, const at::Tensor& label)>;

/// The network's output as a velocity of the straight path, whatever it was trained to predict.
/// DDIM's is asked at the same signal-to-noise ratio; at t = 0 its epsilon says nothing of x_1. A
/// mean flow's is the average over no time.
/// Every method is compiled for this one type, not for each kind of network.
Velocity velocity_of(TrainedModel& model);

/// Sample i is of class i mod 10: int64 [n].
inline at::Tensor classes_in_turn(std::int64_t n) { return at::arange(n, at::kLong).remainder(10); }

/// What a run is sampled by unless another solver is asked for: euler, ddim or flow_map.
std::string solver_of(const Recipe& recipe);

/// Noise, or the blank page that the recipe starts from.
at::Tensor starts(const Recipe& recipe, std::int64_t n, fm::Rng& rng);

/// Samples from the starts x_0 [N, 1, H, W] with labels int64 [N]. Throws OptionError for a
/// solver or guidance that is unknown or does not go with the run. Of a mean flow, flow_map goes
/// from time to time in one evaluation each, and renoise to the data and back to the next time.
Samples sample_images(TrainedModel& model, const at::Tensor& x_0, const at::Tensor& labels,
                      SamplingOptions options);

}  // namespace fashion_mnist
