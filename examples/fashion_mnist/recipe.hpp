#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "flowmatch/coupling/independent.hpp"
#include "flowmatch/io/manifest.hpp"
#include "flowmatch/noisify/noisifier.hpp"
#include "flowmatch/path/affine.hpp"
#include "flowmatch/train/options.hpp"

namespace fashion_mnist {

namespace fm = flowmatch;

/// What is trained: the blog post's flow matching by default, its earlier attempts, or its DDIM
/// benchmark.
struct Recipe {
  std::string model = "paper";  ///< paper | small
  std::string method = "flow";  ///< flow | ddim
  std::string target =
      "velocity";                ///< velocity | difference (the second attempt: x_{t+0.01} - x_t)
  std::string source = "noise";  ///< noise | blank (the second attempt: a white page)
  std::string data = "unknown";  ///< train | test (images that it was trained on) | unknown

  std::map<std::string, std::string> notes() const {
    return {{"model", model},
            {"method", method},
            {"target", target},
            {"source", source},
            {"data", data}};
  }
  /// From a checkpoint's manifest. Throws CheckpointError where it is of another program.
  static Recipe from(const fm::Manifest& m) {
    return {m.get("note.model"), m.get("note.method"), m.get("note.target"), m.get("note.source"),
            m.contains("note.data") ? m.get("note.data") : "unknown"};
  }
};

constexpr double white_page = 0.5;  // pixels lie in [-0.5, 0.5]
constexpr double difference_step = 0.01;
constexpr double latest_time = 0.999;  // the post's clamp

/// The notebook's times s = 1 - t ~ U[0, 1) clamped to 0.999, in this library's direction.
struct DdimTime {
  at::Tensor operator()(std::int64_t n, at::TensorOptions options, fm::Rng& rng) const {
    return 1 - rng.uniform({n}, options).clamp_max(latest_time);
  }
};

/// Calls f with the recipe's noisifier. Throws OptionError for combinations that mean nothing.
template <class F>
auto with_noisifier(const Recipe& recipe, F f) {
  const fm::UniformTime time(latest_time);
  const fm::IndependentCoupling<> noise;
  const fm::IndependentCoupling blank{fm::ConstantSource(white_page)};
  const fm::FiniteDifferenceTarget difference(difference_step);
  if (recipe.method == "ddim") {
    if (recipe.target != "velocity" || recipe.source != "noise") {
      throw fm::OptionError(
          "--target and --source belong to --method flow; leave them out for ddim");
    }
    return f(fm::PathNoisifier(fm::CosinePath{}, fm::EpsilonTarget{}, noise, DdimTime{}));
  }
  if (recipe.target == "velocity") {
    return recipe.source == "noise" ? f(fm::VelocityNoisifier(fm::LinearPath{}, noise, time))
                                    : f(fm::VelocityNoisifier(fm::LinearPath{}, blank, time));
  }
  return recipe.source == "noise" ? f(fm::PathNoisifier(fm::LinearPath{}, difference, noise, time))
                                  : f(fm::PathNoisifier(fm::LinearPath{}, difference, blank, time));
}

/// The notebook's training: Adam with eps 1e-5, one-cycle learning rate.
inline fm::TrainOptions train_options(const Recipe& recipe, std::int64_t epochs,
                                      double learning_rate) {
  fm::TrainOptions options;
  options.epochs = epochs;
  options.learning_rate = learning_rate;
  options.optimizer = fm::adam({.eps = 1e-5});
  options.schedule = fm::one_cycle();
  options.notes = recipe.notes();
  return options;
}

}  // namespace fashion_mnist
