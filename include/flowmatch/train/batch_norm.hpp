#pragma once

#include <ATen/core/grad_mode.h>
#include <torch/nn/modules/batchnorm.h>

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/data/batch_source.hpp"
#include "flowmatch/loss/objective.hpp"
#include "flowmatch/model/eval_scope.hpp"
#include "flowmatch/model/modules_in.hpp"
#include "flowmatch/monitor/hooks.hpp"
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

/// Calls f with each BatchNorm layer in a model that keeps statistics, once.
template <class Model, class F>
void for_each_batch_norm(Model& model, F f) {
  std::unordered_set<const torch::nn::Module*> seen;
  const auto visit = [&](torch::nn::Module& module) {
    const auto take = [&](auto* layer) {
      if (layer != nullptr && layer->running_mean.defined() && seen.insert(layer).second) f(*layer);
    };
    take(module.as<torch::nn::BatchNorm1d>());
    take(module.as<torch::nn::BatchNorm2d>());
    take(module.as<torch::nn::BatchNorm3d>());
  };
  for_each_module(model, [&](torch::nn::Module& module) {
    visit(module);  // which may lie on the stack: modules() would ask for its shared_ptr
    for (const auto& each : module.modules(/*include_self=*/false)) visit(*each);
  });
}

/// While it lives, BatchNorm layers take the plain mean of all batches that they see, from none on,
/// and all other layers are in evaluation mode. Afterwards modes and momenta are as before, and so
/// are the statistics unless it was told to `keep` the new ones.
template <class Model>
class MeasuringScope {
 public:
  explicit MeasuringScope(Model& model) : model_(&model), eval_(model) {
    for_each_batch_norm(model, [&](auto& layer) {
      before_.push_back({layer.running_mean.clone(), layer.running_var.clone(),
                         layer.num_batches_tracked.clone(), layer.options.momentum()});
      layer.options.momentum(std::nullopt);
      layer.reset_running_stats();
      layer.train();
    });
  }
  ~MeasuringScope() {
    try {
      put_back();
    } catch (const std::exception&) {  // the error that is under way is the one to hear of
    }
  }
  MeasuringScope(const MeasuringScope&) = delete;
  MeasuringScope& operator=(const MeasuringScope&) = delete;

  bool has_layers() const { return !before_.empty(); }
  void keep() noexcept { keep_ = true; }

 private:
  void put_back() {
    const at::NoGradGuard no_grad;
    auto before = before_.begin();
    for_each_batch_norm(*model_, [&](auto& layer) {
      layer.options.momentum(before->momentum);
      layer.eval();
      if (!keep_) {
        layer.running_mean.copy_(before->mean);
        layer.running_var.copy_(before->variance);
        layer.num_batches_tracked.copy_(before->batches);
      }
      ++before;
    });
  }

  struct Layer {
    at::Tensor mean, variance, batches;
    std::optional<double> momentum;
  };
  Model* model_;
  EvalScope eval_;
  std::vector<Layer> before_{};
  bool keep_ = false;
};

/// `measure_batch_norm` on a source that is the caller's.
template <class Model, class NoisifierT, BatchSource Source, class ObjectiveT = PredictionLoss<>>
void measure_batch_norm_on(Model& model, const NoisifierT& noisifier, Source& source,
                           const MeasureBatchNormOptions& options,
                           const ObjectiveT& objective = {}) {
  if (options.batches < 1)
    throw OptionError("BatchNorm measured on " + std::to_string(options.batches) +
                      " batches; choose at least 1");
  source.start_epoch(0);
  auto batch = next_with_samples(source);
  if (!batch)
    throw DataError("there is no batch to measure BatchNorm on; give at least one with samples");
  const at::NoGradGuard no_grad;
  std::optional<Ema::Scope> averaged;
  if (options.ema != nullptr) averaged.emplace(*options.ema);
  MeasuringScope<Model> measuring(model);
  if (!measuring.has_layers()) return;
  const std::optional<Placement> placement = placement_of(model);
  const Rng rng(options.seed, placement ? placement->device : c10::kCPU);
  for (std::int64_t i = 0; batch; ++i) {
    batch_loss(model, noisifier, objective, *batch,
               rng.fork("batch norm", static_cast<std::uint64_t>(i)));
    if (i + 1 == options.batches) break;  // before another batch is fetched
    batch = next_with_samples(source);
  }
  measuring.keep();
}

}  // namespace detail

/// Measures the statistics of BatchNorm layers anew, as the mean over the first batches of the
/// source's epoch 0 that have samples, noisified as in training.
///
/// Averaged weights gain by it: the statistics that come with them are averages of what other
/// weights saw, whose activations are not theirs (Izmailov et al. 2018, section 3.2). The more the
/// weights move in the average's window, the more it matters. All other layers are in evaluation
/// mode, and no generator moves. Does nothing for a model without such layers. Throws OptionError
/// for less than one batch, DataError for a source without samples, and whatever source and model
/// throw; nothing has changed then. The model is called as the `objective` calls it; of models of
/// two times that has to be theirs.
template <class Model, class NoisifierT, BatchSource Source, class ObjectiveT = PredictionLoss<>>
void measure_batch_norm(Model& model, const NoisifierT& noisifier, Source source,
                        MeasureBatchNormOptions options = {}, const ObjectiveT& objective = {}) {
  detail::measure_batch_norm_on(model, noisifier, source, options, objective);
}

/// A hook that does so at each epoch's end, for the averaged weights where the trainer keeps some,
/// before the epoch's checkpoint is written: `trainer.fit(batches, MeasureBatchNorm(batches))`.
/// Give it to `fit` before a Validation. `options.ema` is the trainer's, whatever it says.
template <BatchSource Source>
class MeasureBatchNorm {
 public:
  /// Measures on the `source`, by the `options`.
  explicit MeasureBatchNorm(Source source, MeasureBatchNormOptions options = {})
      : source_(std::move(source)), options_(options) {}

  /// Measures the `trainer`'s module.
  template <class Trainer>
  void before_checkpoint(const EpochReport&, Trainer& trainer) {
    options_.ema = trainer.ema();
    detail::measure_batch_norm_on(trainer.module(), trainer.noisifier(), source_, options_);
  }

 private:
  Source source_;
  MeasureBatchNormOptions options_;
};

}}  // namespace flowmatch
