#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "examples/fashion_mnist/dataset.hpp"
#include "examples/fashion_mnist/unet.hpp"
#include "flowmatch/coupling/independent.hpp"
#include "flowmatch/io/manifest.hpp"
#include "flowmatch/noisify/noisifier.hpp"
#include "flowmatch/path/affine.hpp"
#include "flowmatch/train/options.hpp"

namespace fashion_mnist {

namespace fm = flowmatch;

/// What is trained and how: the blog post's recipe, the better one that docs/results.md searches
/// for, the post's earlier attempts, or its DDIM benchmark.
struct Recipe {
  UNetOptions net;
  Pixels pixels;
  std::string method = "flow";  ///< flow | ddim
  std::string target =
      "velocity";                 ///< velocity | difference (the second attempt: x_{t+0.01} - x_t)
  std::string source = "noise";   ///< noise | blank (the second attempt: a white page)
  std::string times = "uniform";  ///< of flow t, of ddim 1 - t: uniform | stratified | logit_normal
  double times_mean = 0;          ///< of logit-normal times, which are stratified too
  double times_stddev = 1;
  std::string data = "unknown";  ///< train | test (images that it was trained on) | unknown

  std::int64_t epochs = 5;
  std::int64_t batch = 512;
  double learning_rate = 1e-2;  ///< the one-cycle policy's maximum
  double ema = 0;               ///< decay of averaged weights; 0 for none

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
  /// Throws OptionError for a network or pixels that cannot be.
  void validate() const;
  /// The end as a recipe of its own.
  Recipe end_alone() const;

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

/// The times t that flow matching is trained at.
struct RecipeTime {
  std::string times;
  fm::LogitNormalTime logit_normal;

  explicit RecipeTime(const Recipe& r)
      : times(r.times), logit_normal(r.times_mean, r.times_stddev) {}
  at::Tensor operator()(std::int64_t n, at::TensorOptions options, fm::Rng& rng) const {
    const fm::UniformTime uniform(latest_time);
    if (times == "logit_normal") return fm::StratifiedTime(logit_normal)(n, options, rng);
    if (times == "stratified") return fm::StratifiedTime(uniform)(n, options, rng);
    return uniform(n, options, rng);
  }
};

/// DDIM's: the notebook draws its s = 1 - t as flow matching draws t.
struct DdimTime {
  RecipeTime s;
  at::Tensor operator()(std::int64_t n, at::TensorOptions options, fm::Rng& rng) const {
    return 1 - s(n, options, rng);
  }
};

/// Calls f with the recipe's noisifier. Throws OptionError for combinations that mean nothing.
template <class F>
auto with_noisifier(const Recipe& recipe, F f) {
  const RecipeTime time(recipe);
  const fm::IndependentCoupling<> noise;
  const fm::IndependentCoupling blank{fm::ConstantSource(recipe.pixels.range)};
  const fm::FiniteDifferenceTarget difference(difference_step);
  if (recipe.method == "ddim") {
    if (recipe.target != "velocity" || recipe.source != "noise") {
      throw fm::OptionError(
          "--target and --source belong to --method flow; leave them out for ddim");
    }
    return f(fm::PathNoisifier(fm::CosinePath{}, fm::EpsilonTarget{}, noise, DdimTime{time}));
  }
  if (recipe.target == "velocity") {
    return recipe.source == "noise" ? f(fm::VelocityNoisifier(fm::LinearPath{}, noise, time))
                                    : f(fm::VelocityNoisifier(fm::LinearPath{}, blank, time));
  }
  return recipe.source == "noise" ? f(fm::PathNoisifier(fm::LinearPath{}, difference, noise, time))
                                  : f(fm::PathNoisifier(fm::LinearPath{}, difference, blank, time));
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
