#pragma once

#include <ATen/core/grad_mode.h>
#include <torch/nn/modules/batchnorm.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/data/batch_source.hpp"
#include "flowmatch/loss/objective.hpp"
#include "flowmatch/model/eval_scope.hpp"
#include "flowmatch/model/velocity_model.hpp"
#include "flowmatch/optim/ema.hpp"
#include "flowmatch/train/batch_loss.hpp"

namespace flowmatch { inline namespace v0 {

/// Options of `measure_batch_norm`.
struct MeasureBatchNormOptions {
  std::uint64_t seed = 0;     ///< of the noise and the times
  std::int64_t batches = 50;  ///< at most so many are looked at
  /// Whose averaged weights and statistics (`trainer.ema()`); null: the model's.
  Ema* ema = nullptr;
};

namespace detail {

/// Calls f with each BatchNorm layer that keeps statistics.
template <class F>
void for_each_batch_norm(torch::nn::Module& module, F f) {
  const auto visit = [&](auto* layer) {
    if (layer != nullptr && layer->running_mean.defined()) f(*layer);
  };
  for (const auto& each : module.modules()) {
    visit(each->template as<torch::nn::BatchNorm1d>());
    visit(each->template as<torch::nn::BatchNorm2d>());
    visit(each->template as<torch::nn::BatchNorm3d>());
  }
}

/// While it lives, BatchNorm layers take the plain mean of all batches that they see, from none on,
/// and all other layers are in evaluation mode.
class MeasuringScope {
 public:
  explicit MeasuringScope(torch::nn::Module& module) : module_(&module), eval_(module) {
    for_each_batch_norm(module, [&](auto& layer) {
      momenta_.push_back(layer.options.momentum());
      layer.options.momentum(std::nullopt);
      layer.reset_running_stats();
      layer.train();
    });
  }
  ~MeasuringScope() {
    auto momentum = momenta_.begin();
    for_each_batch_norm(*module_, [&](auto& layer) {
      layer.options.momentum(*momentum++);
      layer.eval();
    });
  }
  MeasuringScope(const MeasuringScope&) = delete;
  MeasuringScope& operator=(const MeasuringScope&) = delete;

  bool has_layers() const { return !momenta_.empty(); }

 private:
  torch::nn::Module* module_;
  EvalScope eval_;
  std::vector<std::optional<double>> momenta_;
};

}  // namespace detail

/// Measures the statistics of BatchNorm layers anew, as the mean over the first batches of the
/// source's epoch 0, noisified as in training.
///
/// Averaged weights gain by it: the statistics that come with them are averages of what other
/// weights saw, whose activations are not theirs (Izmailov et al. 2018, section 3.2). The more the
/// weights move in the average's window, the more it matters. All other layers are in evaluation
/// mode, and no generator moves. Does nothing for a model without such layers. Throws OptionError
/// for less than one batch, DataError for a source without one; nothing has changed then.
template <class Model, class NoisifierT, BatchSource Source>
void measure_batch_norm(Model& model, const NoisifierT& noisifier, Source source,
                        MeasureBatchNormOptions options = {}) {
  if (options.batches < 1)
    throw OptionError("BatchNorm measured on " + std::to_string(options.batches) +
                      " batches; choose at least 1");
  source.start_epoch(0);
  auto batch = source.next();
  if (!batch) throw DataError("there is no batch to measure BatchNorm on; give at least one");
  const at::NoGradGuard no_grad;
  std::optional<Ema::Scope> averaged;
  if (options.ema != nullptr) averaged.emplace(*options.ema);
  const detail::MeasuringScope measuring(module_of(model));
  if (!measuring.has_layers()) return;
  const Rng rng(options.seed, module_of(model).parameters().front().device());
  for (std::int64_t i = 0; batch; ++i) {
    batch_loss(model, noisifier, PredictionLoss<>{}, *batch,
               rng.fork("batch norm", static_cast<std::uint64_t>(i)));
    if (i + 1 == options.batches) break;  // before another batch is fetched
    batch = source.next();
  }
}

}}  // namespace flowmatch
