#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "examples/fashion_mnist/dataset.hpp"
#include "examples/fashion_mnist/unet.hpp"
#include "flowmatch/io/manifest.hpp"
#include "flowmatch/loss/mean_flow.hpp"
#include "flowmatch/loss/objective.hpp"
#include "flowmatch/noisify/noisifier.hpp"
#include "flowmatch/noisify/two_times.hpp"
#include "flowmatch/train/options.hpp"

namespace fashion_mnist {

namespace fm = flowmatch;

/// What is trained and how: the blog post's recipe, the better one that docs/results.md searches
/// for, the post's earlier attempts, or its DDIM benchmark.
struct Recipe {
  UNetOptions net;
  Pixels pixels;
  std::string method = "flow";  ///< flow | ddim | mean_flow
  std::string target =
      "velocity";                 ///< velocity | difference (the second attempt: x_{t+0.01} - x_t)
  std::string source = "noise";   ///< noise | blank (the second attempt: a white page)
  std::string times = "uniform";  ///< of flow t, of ddim 1 - t: uniform | stratified | logit_normal
  double times_mean = 0;          ///< of logit-normal times, which are stratified too
  double times_stddev = 1;
  double drop = 0;               ///< share of the labels that training hides, for guidance
  std::string data = "unknown";  ///< train | test (images that it was trained on) | unknown

  std::int64_t epochs = 5;
  std::int64_t batch = 512;
  double learning_rate = 1e-2;  ///< the one-cycle policy's maximum
  double ema = 0;               ///< decay of averaged weights; 0 for none

  /// Of --method mean_flow.
  struct MeanFlow {
    double equal = 0.75;                             ///< share of samples with one time for both
    fm::MeanFlowOptions loss{.own_velocity = true};  ///< improved mean flows
  } mean_flow;

  /// One more pass, over few images in large batches, from the weights (averaged ones, where there
  /// are some) that the epochs end with.
  struct End {
    std::int64_t images = 0;  ///< the first of the data; 0 for no such end
    std::int64_t batch = 512;
    double learning_rate = 1e-3;
    double ema = 0.998;
  } end;

  /// "post" or "default", for a method. Throws OptionError for any other name, and so below.
  static Recipe named(std::string_view name, const std::string& method = "flow");
  /// Gives the network what `method` and `drop` need: two times, and a row for no label.
  void fit_network();
  /// Throws OptionError for a network or pixels that cannot be.
  void validate() const;
  /// The end as a recipe of its own.
  Recipe end_alone() const;

  /// A training step in units of a flow's, in which the network goes forward and, at twice the
  /// price, back. A mean flow's samples of two times go through it again: for the derivative, and
  /// for its own velocity.
  double cost_of_step() const;

  /// What sampling has to know, for a checkpoint's manifest.
  std::map<std::string, std::string> notes() const;
  /// From a checkpoint's manifest; what older ones do not say was as the post has it. Throws
  /// CheckpointError where it is of another program.
  static Recipe from(const fm::Manifest& m);
};

/// Images seen times GFLOP of one, of the post's recipe with its small network: what a better
/// recipe may cost.
constexpr double post_cost = 5 * 60000 * 0.2314;

constexpr double difference_step = 0.01;
constexpr double latest_time = 0.999;  // the post's clamp

/// The label of a dropped one.
constexpr std::int64_t no_label = 10;

/// Noisifiers by the type of what they make: training is compiled once for all that make the same.
template <class Noised>
using NoisifierOf = std::function<Noised(const fm::Batch<at::Tensor>&, fm::Rng&)>;

/// The recipe's noisifier, of flows and of DDIM. Throws OptionError for combinations that mean
/// nothing.
NoisifierOf<fm::Noised<at::Tensor>> noisifier(const Recipe& recipe);
/// That of mean flows.
NoisifierOf<fm::TwoTimeNoised<at::Tensor>> two_time_noisifier(const Recipe& recipe);

/// Calls f with the recipe's noisifier, its objective, and the objective to validate by, which of
/// mean flows is the squared error itself: divided by its own size it would tell nothing.
template <class F>
auto with_training(const Recipe& recipe, F f) {
  if (recipe.method != "mean_flow")
    return f(noisifier(recipe), fm::PredictionLoss<>{}, fm::PredictionLoss<>{});
  fm::MeanFlowOptions unweighted = recipe.mean_flow.loss;
  unweighted.power = 0;
  return f(two_time_noisifier(recipe), fm::MeanFlowLoss(recipe.mean_flow.loss),
           fm::MeanFlowLoss(unweighted));
}

/// The recipe's training: Adam with the notebook's eps 1e-5, one-cycle learning rate.
inline fm::TrainOptions train_options(const Recipe& recipe) {
  fm::TrainOptions options;
  options.epochs = recipe.epochs;
  options.learning_rate = recipe.learning_rate;
  options.ema_decay = recipe.ema;
  options.optimizer = fm::adam({.eps = 1e-5});
  options.schedule = fm::one_cycle();
  options.notes = recipe.notes();
  return options;
}

}  // namespace fashion_mnist
