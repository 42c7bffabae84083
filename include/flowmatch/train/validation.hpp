#pragma once

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <concepts>
#include <cstdint>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/data/batch_source.hpp"
#include "flowmatch/loss/objective.hpp"
#include "flowmatch/model/eval_scope.hpp"
#include "flowmatch/model/modules_in.hpp"
#include "flowmatch/model/velocity_model.hpp"
#include "flowmatch/monitor/early_stopping.hpp"
#include "flowmatch/monitor/hooks.hpp"
#include "flowmatch/noisify/noisifier.hpp"
#include "flowmatch/optim/ema.hpp"
#include "flowmatch/train/batch_loss.hpp"

namespace flowmatch { inline namespace v0 {

/// Options of `Validation`.
struct ValidationOptions {
  std::uint64_t seed = 0;  ///< of the noise and the times
  Ema* ema =
      nullptr;  ///< whose averaged weights are looked at (`trainer.ema()`); null: the model's
  std::function<void(double)> on_loss{};          ///< as a hook: hears of each epoch's loss
  std::optional<EarlyStopping> early_stopping{};  ///< ends training by the loss
};

/// The loss on held-out data: the objective's mean over the samples of the source's epoch 0, in
/// evaluation mode and without gradients.
///
/// Noise and times of batch k depend on (seed, k) alone, so that values of different epochs, runs
/// and networks compare. Training goes on as if nothing had been: modes are restored, no generator
/// moves, and nothing is learned.
///
/// Call it, `double loss = validation();`, or give it to `fit` as a hook, which looks at each
/// epoch's end: the epoch's checkpoint is written with the loss as its score, so that
/// `best_checkpoint` finds the one with the lowest. The model is taken as the Sampler takes it,
/// adapters too; the source is kept (move it in). Throws DataError for a source without a sample,
/// and whatever source, model and objective throw.
template <class Model, class NoisifierT, BatchSource Source, class ObjectiveT = PredictionLoss<>>
class Validation {
  using C = typename Source::condition_type;
  static_assert(!std::derived_from<Model, torch::nn::Module>,
                "flowmatch: Validation cannot move a temporary module; keep it in a variable");
  static_assert(Noisifier<NoisifierT, C>,
                "flowmatch: the noisifier must turn a Batch<Condition> into a Noised<Condition>; "
                "see noisify/noisifier.hpp");
  static_assert(!Noisifier<NoisifierT, C> || TrainsOn<ObjectiveT, Model, NoisifierT, C>,
                "flowmatch: this model's forward does not take the data's condition, or the "
                "objective what the noisifier makes");

 public:
  /// Of its parts.
  Validation(Model model, NoisifierT noisifier, Source source, ValidationOptions options = {},
             ObjectiveT objective = {})
      : model_(std::move(model)),
        noisifier_(std::move(noisifier)),
        source_(std::move(source)),
        options_(std::move(options)),
        objective_(std::move(objective)) {}

  /// The loss.
  double operator()() {
    const at::NoGradGuard no_grad;
    std::optional<Ema::Scope> averaged;
    if (options_.ema != nullptr) averaged.emplace(*options_.ema);
    const EvalScope eval(model_);
    const std::optional<Placement> placement = placement_of(model_);
    const Rng rng(options_.seed, placement ? placement->device : c10::kCPU);

    std::vector<at::Tensor> losses;  // read all at once: a look at each would hold up a GPU
    std::vector<double> samples;
    source_.start_epoch(0);
    while (const auto batch = next_with_samples(source_)) {  // the mean of none is NaN
      losses.push_back(batch_loss(model_, noisifier_, objective_, *batch,
                                  rng.fork("validation", losses.size())));
      samples.push_back(static_cast<double>(batch->x_1.size(0)));
    }
    if (losses.empty())
      throw DataError("there is no batch to validate on; give at least one that has samples");
    const at::Tensor weights = at::tensor(samples, at::kDouble);
    return (at::stack(losses).cpu().to(at::kDouble).dot(weights) / weights.sum())
        .template item<double>();
  }

  /// The score of the epoch's checkpoint.
  double before_checkpoint(const EpochReport&) {
    loss_ = (*this)();
    return *loss_;
  }
  /// Tells `on_loss`, and may end training.
  Next on_epoch(const EpochReport&) {
    const double loss = loss_ ? *loss_ : (*this)();
    loss_.reset();
    if (options_.on_loss) options_.on_loss(loss);
    return options_.early_stopping ? (*options_.early_stopping)(loss) : Next::proceed;
  }

 private:
  Model model_;
  NoisifierT noisifier_;
  Source source_;
  ValidationOptions options_;
  ObjectiveT objective_;
  std::optional<double> loss_{};  // of the epoch that ends
};

template <class M, class N, class S>
Validation(M&&, N, S) -> Validation<model_storage_t<M>, N, S>;
template <class M, class N, class S>
Validation(M&&, N, S, ValidationOptions) -> Validation<model_storage_t<M>, N, S>;
template <class M, class N, class S, class O>
Validation(M&&, N, S, ValidationOptions, O) -> Validation<model_storage_t<M>, N, S, O>;

}}  // namespace flowmatch
