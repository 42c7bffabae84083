#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "flowmatch/checkpoint/checkpoint.hpp"
#include "flowmatch/checkpoint/step_undo.hpp"
#include "flowmatch/core/cuda_graph.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/io/manifest.hpp"
#include "flowmatch/model/channels_last.hpp"
#include "flowmatch/optim/clip.hpp"
#include "flowmatch/optim/ema.hpp"
#include "flowmatch/optim/group_rates.hpp"
#include "flowmatch/optim/lending.hpp"
#include "flowmatch/optim/loss_scaler.hpp"
#include "flowmatch/optim/module_tensors.hpp"
#include "flowmatch/optim/optimizer.hpp"
#include "flowmatch/train/nonfinite.hpp"
#include "flowmatch/train/options.hpp"

namespace flowmatch { inline namespace v0 {

/// What a training step does with a loss: backward, then, once all of the step's losses are in,
/// unscale, clip, check, optimizer, average. Holds the optimizer, the averages and the loss scale
/// of a run. Its constructor checks the options, throws OptionError for those out of range, and
/// lays the module's weights out as they say.
class Updater {
 public:
  /// Of a module, as the options say.
  Updater(torch::nn::Module& module, const TrainOptions& options)
      : module_(&module),
        parameters_(prepared(module, options)),
        tensors_(module),
        buffers_(detail::distinct(module.buffers())),
        optimizer_(make_optimizer(options.optimizer, module, options.learning_rate)),
        rates_(*optimizer_),
        mask_(dynamic_cast<StepMask*>(optimizer_.get())),
        clip_norm_(options.clip_norm),
        // An optimizer without a mask has to know of a fault before it steps.
        at_once_(!options.asynchronous_on(device()) ||
                 (mask_ == nullptr && options.on_nonfinite != OnNonfinite::stop)),
        watch_(options.on_nonfinite) {
    if (options.precision == Precision::float16) scaler_.emplace(device());
    if (options.ema_decay > 0) ema_.emplace(module, options.ema_decay, options.ema_warmup);
  }

  /// Before a step's first loss: the step is made with these rates. Throws OptionError as
  /// `require_trainable` does, and for rates out of range.
  void begin(const Rates& rates) {
    require_trainable();
    const double momentum = rates.momentum.value_or(0);
    if (!(rates.factor >= 0) || !std::isfinite(rates.factor) || !(momentum >= 0 && momentum < 1)) {
      throw OptionError(
          text_of("the schedule says a factor of ", rates.factor, " and a momentum of ", momentum,
                  "; let it give a finite factor of at least 0, and a momentum in [0, 1) or none"));
    }
    rates_.scale(*optimizer_, rates);
    optimizer_->zero_grad();
  }

  /// Throws OptionError where the module has other parameters (with averages: or buffers) than when
  /// this was made, or other dtypes, shapes or devices: what is kept for them here would not fit.
  /// It names what changed.
  void require_unchanged() {
    const auto [parameters, buffers] = tensors_.changed();
    if (parameters || (buffers && ema_)) tensors_.fail("the trainer");
    if (!buffers) return;
    tensors_ = ModuleTensors(*module_);
    buffers_ = detail::distinct(module_->buffers());
  }
  /// The same, and where the module has averaged weights at the moment, of whichever Ema.
  void require_trainable() {
    require_unchanged();
    const auto lent = [](const at::Tensor& t) { return detail::Lendings::all().lent(t); };
    if (std::any_of(parameters_.begin(), parameters_.end(), lent) ||
        std::any_of(buffers_.begin(), buffers_.end(), lent)) {
      throw OptionError(
          "the averages are in the module, and training would change them; end the scope "
          "(Ema::swap_in) first");
    }
  }
  /// While what it returns lives, the module has its own weights, whatever is swapped in. Throws as
  /// `require_unchanged` does.
  detail::OwnWeights own_weights() {
    require_unchanged();
    return detail::OwnWeights(*module_);
  }

  /// Of what a step may change before `finish`; to be made before the step.
  StepUndo undo() const { return StepUndo(buffers_, device()); }

  /// What gradients are taken of: a loss, or what a scaler makes of it.
  at::Tensor scaled(const at::Tensor& loss) { return scaler_ ? scaler_->scale(loss) : loss; }
  /// Adds a loss's gradients.
  void backward(const at::Tensor& loss) { scaled(loss).backward(); }

  /// Ends a step of the given loss, or takes it back by `undo`. Returns whether the run goes on
  /// from here; if not, it has to go back to a checkpoint. Throws TrainingError as NonfiniteWatch
  /// does.
  bool finish(std::int64_t step, const at::Tensor& loss, StepUndo& undo) {
    const at::Tensor found_inf = scaler_ ? scaler_->unscale(parameters_) : at::Tensor{};
    norm_ = clip_norm_ > 0 ? clip_grad_norm(parameters_, clip_norm_) : grad_norm(parameters_);
    const NonfiniteWatch::Verdict verdict = judge(step, loss, undo);
    if (scaler_) scaler_->update(found_inf);
    if (verdict == NonfiniteWatch::Verdict::skip) undo.restore_buffers();
    if (verdict == NonfiniteWatch::Verdict::good) {
      optimizer_->step();
      if (ema_) ema_->update();
    }
    return verdict != NonfiniteWatch::Verdict::roll_back;
  }

  /// Looks at what the device remembers of the steps since the last look; see `finish`.
  bool look() {
    const bool proceed = watch_.read_flag() != NonfiniteWatch::Verdict::roll_back;
    if (mask_ != nullptr) mask_->settle();
    return proceed;
  }

  /// The numbers of its state go into a checkpoint's manifest, all else into its files.
  void describe(Manifest& manifest) const {
    manifest.set("learning_rates", rates_.text(*optimizer_));
    manifest.set("ema_updates", ema_ ? ema_->updates() : 0);
    manifest.set("skipped", watch_.skipped());
    if (!scaler_) return;
    manifest.set("loss_scale", number_text(scaler_->value()));
    manifest.set("loss_scale_steps", scaler_->good_steps());
  }
  /// Goes on from a checkpoint. Throws CheckpointError.
  void restore(const Checkpoint& from) {
    const Manifest& manifest = from.manifest;
    const StateDict averages = ema_ ? read_state_dict(from.path / "ema.pt") : StateDict();
    load_optimizer(from.path, *optimizer_, device());
    // The first checkpoints did not keep the groups' own rates.
    const bool rates = manifest.contains("learning_rates");
    rates_.keep(*optimizer_, rates ? manifest.get("learning_rates") : "");
    if (ema_) ema_->load(averages, manifest.get_int("ema_updates"));
    if (scaler_)
      scaler_->restore(manifest.get_double("loss_scale"), manifest.get_int("loss_scale_steps"));
    watch_.set_skipped(manifest.contains("skipped") ? manifest.get_int("skipped") : 0);
  }

  /// Those that are trained, each once.
  const std::vector<at::Tensor>& parameters() const noexcept { return parameters_; }
  /// Of the parameters.
  c10::Device device() const { return parameters_.front().device(); }
  /// As the options made it.
  torch::optim::Optimizer& optimizer() noexcept { return *optimizer_; }
  /// The averages; null where none are kept.
  Ema* ema() noexcept { return ema_ ? &*ema_ : nullptr; }
  /// What judges steps.
  NonfiniteWatch& watch() noexcept { return watch_; }
  /// Of the last step's gradient, before clipping; undefined where there is none.
  const at::Tensor& norm() const noexcept { return norm_; }

 private:
  static std::vector<at::Tensor> prepared(torch::nn::Module& module, const TrainOptions& options) {
    options.validate();
    std::vector<at::Tensor> parameters = detail::distinct(module.parameters());
    const bool on_cuda = !parameters.empty() && parameters.front().is_cuda();
    if (options.cuda_graph && !(on_cuda && CudaGraph::available)) {
      throw OptionError(
          on_cuda ? "this program was built without CUDA's headers, which cuda_graph needs; CMake "
                    "says whether it has found them. Or leave the option out"
                  : "cuda_graph records the work of a CUDA device, and the weights are not on one; "
                    "move the module there first, or leave the option out");
    }
    if (options.channels_last) to_channels_last(module);
    return parameters;
  }

  NonfiniteWatch::Verdict judge(std::int64_t step, const at::Tensor& loss, StepUndo& undo) {
    if (at_once_) {
      const bool finite_norm = !norm_.defined() || std::isfinite(norm_.item<double>());
      return watch_.judge(step, std::isfinite(loss.item<double>()), finite_norm,
                          scaler_ && scaler_->value() > 1);
    }
    const at::Tensor finite_loss = at::isfinite(loss);
    const at::Tensor finite_norm = norm_.defined() ? at::isfinite(norm_) : finite_loss;
    const at::Tensor bad = finite_loss.logical_and(finite_norm).logical_not();
    at::Tensor fault = bad;
    if (scaler_)
      fault = bad.logical_and(finite_loss.logical_and(scaler_->reducible()).logical_not());
    watch_.note(step, bad, fault);
    if (mask_ != nullptr) {
      mask_->mask(bad.to(at::kFloat));
      undo.restore_buffers_where(bad);
    }
    return NonfiniteWatch::Verdict::good;
  }

  torch::nn::Module* module_;
  std::vector<at::Tensor> parameters_;
  ModuleTensors tensors_;
  std::vector<at::Tensor> buffers_;
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
  GroupRates rates_;
  StepMask* mask_;
  double clip_norm_;
  bool at_once_;
  NonfiniteWatch watch_;
  std::optional<Ema> ema_{};
  std::optional<LossScaler> scaler_{};
  at::Tensor norm_{};
};

}}  // namespace flowmatch
