#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/InferenceMode.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "flowmatch/checkpoint/finite.hpp"
#include "flowmatch/checkpoint/folder_lock.hpp"
#include "flowmatch/checkpoint/generators.hpp"
#include "flowmatch/checkpoint/position.hpp"
#include "flowmatch/checkpoint/run_folder.hpp"
#include "flowmatch/checkpoint/step_undo.hpp"
#include "flowmatch/data/batch_source.hpp"
#include "flowmatch/loss/objective.hpp"
#include "flowmatch/model/velocity_model.hpp"
#include "flowmatch/monitor/hooks.hpp"
#include "flowmatch/monitor/loss_meter.hpp"
#include "flowmatch/monitor/pace.hpp"
#include "flowmatch/noisify/noisifier.hpp"
#include "flowmatch/optim/ema.hpp"
#include "flowmatch/parallel/agree.hpp"
#include "flowmatch/parallel/communicator.hpp"
#include "flowmatch/train/gradients.hpp"
#include "flowmatch/train/options.hpp"
#include "flowmatch/train/report.hpp"
#include "flowmatch/train/saving.hpp"
#include "flowmatch/train/updater.hpp"

namespace flowmatch { inline namespace v0 {

/// Trains any torch::nn::Module whose forward takes (x, t) or (x, t, condition).
///
/// Each step: batch -> noisifier -> objective -> backward -> (unscale) -> (clip) -> check ->
/// optimizer -> (EMA). The model is taken as a holder, a std::shared_ptr or an lvalue (kept by
/// address); it is never copied or moved. Work happens on the device of its parameters. What the
/// noisifier draws for batch k depends on the seed and k alone (and on the number of rollbacks).
///
/// The constructor throws OptionError for options out of range, before anything happens. A loss or
/// gradient that is NaN or infinite is answered as `on_nonfinite` says: on the CPU before that step
/// changes anything; on other devices the fused optimizers mask it, and it is found at the next
/// look at the loss (`log_every`) or checkpoint. Where `fit` throws, the trainer stands at the end
/// of the last whole step and can go on or be saved; after an error of a hook or source, it has
/// written a checkpoint.
///
/// With a communicator, its ranks train as one: each takes its part of every batch, so the batch
/// size is that of all together (docs/distributed.md). Give every rank the same data, options and
/// folder of checkpoints. Weights begin as rank 0's; rank 0 alone calls hooks and writes.
template <class Model, class NoisifierT, class ObjectiveT = PredictionLoss<>,
          class CommunicatorT = SingleProcess>
class Trainer {
  static_assert(
      ModuleHandle<Model>,
      "flowmatch: Trainer needs a torch::nn::Module (an lvalue, its holder or a "
      "std::shared_ptr); a lambda has no parameters to train, it can only be sampled from");
  static_assert(!std::derived_from<Model, torch::nn::Module>,
                "flowmatch: Trainer cannot move a temporary module; keep it in a variable");
  static_assert(Communicator<CommunicatorT>,
                "flowmatch: the fifth argument is how ranks talk; see parallel/communicator.hpp");

 public:
  /// Of its parts. Throws OptionError for options out of range, and for an empty holder.
  Trainer(Model model, NoisifierT noisifier, TrainOptions options = {}, ObjectiveT objective = {},
          CommunicatorT communicator = CommunicatorT())
      : model_(std::move(model)),
        noisifier_(std::move(noisifier)),
        objective_(std::move(objective)),
        communicator_(std::move(communicator)),
        options_(std::move(options)),
        updater_(module(), options_),
        device_(updater_.device()),
        asynchronous_(options_.asynchronous_on(device_)),
        folder_(options_.checkpoints, options_.set_aside_other_runs),
        nonfinite_buffers_(module()) {}

  /// Trains until `epochs` are done, from wherever the trainer stands. Hooks: see
  /// monitor/hooks.hpp. Throws also CheckpointError for a folder that cannot be written to,
  /// DataError for its source.
  template <class Source, class... Hooks>
  requires BatchSource<std::remove_cvref_t<Source>> &&
      (HookOf<std::remove_reference_t<Hooks>, Trainer>&&...)TrainResult
      fit(Source&& source, Hooks&&... hooks) {
    using C = typename std::remove_cvref_t<Source>::condition_type;
    static_assert(Noisifier<NoisifierT, C>,
                  "flowmatch: the noisifier must turn a Batch<Condition> into a Noised<Condition>; "
                  "see noisify/noisifier.hpp");
    static_assert(!Noisifier<NoisifierT, C> || TrainsOn<ObjectiveT, Model, NoisifierT, C>,
                  "flowmatch: this model's forward does not take the data's condition (give it "
                  "forward(x, t, condition)), or the objective what the noisifier makes");
    const c10::InferenceMode with_gradients(false);
    const std::shared_ptr<FolderLock> lock = begin(source);
    try {
      StepGradients<Model, NoisifierT, ObjectiveT, CommunicatorT, C> gradients(
          model_, noisifier_, objective_, communicator_, updater_, options_);
      run(source, gradients, hooks...);
    } catch (...) {
      save_after_error();
      throw;
    }
    if (stopping_ && saved_step_ != position_.step && resumable_here()) save();
    communicator_.barrier();  // none is done before rank 0 has written
    return {position_.step,
            meter_.mean(),
            pace_.seconds(),
            stopping_ && position_.epoch < options_.epochs,
            updater_.watch().skipped(),
            position_.rollbacks};
  }

  /// Goes back to the newest whole checkpoint in `options.checkpoints`: weights, averages,
  /// optimizer, position, generators. Returns false where there is none. Call it before `fit`; the
  /// next fit goes on from there, bit for bit (CPU, same binary and number of threads). Throws
  /// CheckpointError for damaged ones, OptionError naming each option that is not what the run
  /// began with. `on_damaged` hears of damaged checkpoints that were passed over.
  bool resume(const std::function<void(const std::string&)>& on_damaged = {}) {
    // The other ranks draw (for Dropout) what theirs give: not the same as rank 0.
    const std::optional<Position> found =
        resume_run(folder_, options_, module(), updater_, communicator_.rank() == 0, on_damaged);
    if (!found) return false;
    position_ = *found;
    saved_step_ = position_.step;
    return true;
  }

  /// Writes a checkpoint of where the trainer stands, if `options.checkpoints` names a folder. With
  /// a score, such as a validation loss, the one with the lowest is kept beside the newest, for
  /// `best_checkpoint`; one that is NaN or infinite is left out. Throws CheckpointError, also where
  /// the folder is another run's; OptionError where resume could not go on from it: in mid-epoch of
  /// a source that is no RestartableSource, and in a hook of several ranks where these have steps
  /// to look at together (`asynchronous`, between `log_every`). Nothing has changed then.
  void save(std::optional<double> score = {}) {
    if (folder_.empty()) return;
    const bool alone = in_hook_ && communicator_.size() > 1;  // others hear nothing of this call
    detail::require_saveable(resumable_here(), !alone || !updater_.watch().noted());
    if (look_for_faults()) return;
    if (communicator_.rank() == 0)
      save_run(folder_, position_, options_, module(), updater_, nonfinite_buffers_, score);
    if (alone) return;
    saved_step_ = position_.step;
    updater_.watch().progressed();
  }

  /// @{ What is trained, its optimizer, averages (nullptr without `ema_decay`), options and steps.
  auto& module() { return module_of(model_); }
  const NoisifierT& noisifier() const noexcept { return noisifier_; }
  torch::optim::Optimizer& optimizer() noexcept { return updater_.optimizer(); }
  Ema* ema() noexcept { return updater_.ema(); }
  const TrainOptions& options() const noexcept { return options_; }
  std::int64_t steps() const noexcept { return position_.step; }
  /// @}

 private:
  // Returns what keeps other runs out of the folder.
  template <class Source>
  std::shared_ptr<FolderLock> begin(Source& source) {
    std::shared_ptr<FolderLock> lock;
    restartable_ = RestartableSource<Source>;
    all_or_none(communicator_, device_, [&] {
      updater_.require_trainable();
      batches_ = source.batches_per_epoch();
      if (batches_ < 1) throw DataError("the source has no batches; give it at least one sample");
      steps_per_epoch_ = (batches_ + options_.accumulate - 1) / options_.accumulate;
      position_.set_data(data_text(source));
      if (communicator_.rank() == 0 && !folder_.empty()) lock = folder_.begin(position_.step);
    });
    begin_together(communicator_, module(), ema(),
                   {{"the data", position_.data},
                    {"the options", options_.text()},
                    {"the step to go on from", std::to_string(position_.step)}});
    stop_asked_ = options_.stop.stop_requested();
    stopping_ = any_rank(communicator_, device_, stop_asked_);
    rolling_back_ = false;
    in_hook_ = false;
    meter_.reset();
    pace_ = Pace();
    module().train();
    if (options_.on_nonfinite == OnNonfinite::roll_back && saved_step_ != position_.step) save();
    return lock;
  }

  template <class Source, class MakeGradients, class... Hooks>
  void run(Source& source, MakeGradients& make_gradients, Hooks&... hooks) {
    while (position_.epoch < options_.epochs && !stopping_) {
      meter_.reset();
      if (position_.batch < batches_)  // or it was saved between the last step and the epoch's end
        start_at(source, position_.epoch, position_.batch);
      while (position_.batch < batches_ && !stopping_ && !rolling_back_)
        step(source, make_gradients, hooks...);
      if (stopping_) look_for_faults();  // of the last steps
      if (rolling_back_) {
        roll_back();
      } else if (position_.batch == batches_) {
        end_epoch(hooks...);
      }
    }
  }

  template <class Source, class MakeGradients, class... Hooks>
  void step(Source& source, MakeGradients& make_gradients, Hooks&... hooks) {
    const Rates rates = options_.schedule.at(position_.step, total_steps());
    Gradients gradients;
    {
      const auto threads = make_gradients.threads();
      updater_.begin(rates);
      StepUndo undo = updater_.undo();
      gradients = make_gradients(source, batches_, position_);
      rolling_back_ = !updater_.finish(position_.step, gradients.loss, undo);
      if (rolling_back_) return;
      undo.keep();
    }
    ++position_.step;
    position_.batch += gradients.batches;
    pace_.add(gradients.samples);

    meter_.add(gradients.loss);
    auto report = report_at<StepReport>(position_, total_steps(), options_.epochs, pace_);
    report.samples = gradients.samples;
    report.learning_rate = optimizer().param_groups().back().options().get_lr();
    const bool save_now = options_.checkpoint_every > 0 && position_.batch < batches_ &&
                          position_.step % options_.checkpoint_every == 0 && restartable_;
    const bool log_now = !asynchronous_ || position_.step % options_.log_every == 0;
    if ((log_now || save_now || position_.batch == batches_) && look_for_faults()) return;
    if (log_now) {
      report.loss = gradients.loss.template item<double>();
      if (updater_.norm().defined()) report.grad_norm = updater_.norm().template item<double>();
    }
    if (save_now) save();
    report.skipped = updater_.watch().skipped();
    report.rollbacks = position_.rollbacks;
    ask(report, hooks...);
  }

  // Reads what the device has remembered. Returns whether the run has to roll back.
  bool look_for_faults() {
    rolling_back_ = !updater_.look() || rolling_back_;
    return rolling_back_;
  }

  void roll_back() {
    const std::int64_t rollbacks = position_.rollbacks + 1;
    if (communicator_.rank() == 0) folder_.claim(position_.step);  // never to another run's
    if (!resume()) {
      throw CheckpointError("there is no checkpoint in " + folder_.path().string() +
                            " to roll back to; somebody has removed them");
    }
    position_.rollbacks = rollbacks;
    rolling_back_ = false;
  }

  std::int64_t total_steps() const { return steps_per_epoch_ * options_.epochs; }
  // Whether a checkpoint of now is one to go on from.
  bool resumable_here() const {
    return restartable_ || batches_ == 0 || position_.batch % batches_ == 0;
  }

  // If the run could go on from there, but not weights from the brink. Quietly: people need to hear
  // of the error itself.
  void save_after_error() {
    in_hook_ = false;
    if (updater_.watch().gave_up() || position_.step == 0 || position_.step == saved_step_) return;
    if (!resumable_here()) return;
    try {
      save();
    } catch (const std::exception&) {
    }
  }

  template <class... Hooks>
  void end_epoch(Hooks&... hooks) {
    auto report = report_at<EpochReport>(position_, total_steps(), options_.epochs, pace_);
    report.loss = meter_.mean();
    std::optional<double> score;
    in_hooks(true, [&] { score = detail::score_of_hooks(report, *this, hooks...); });
    const bool scored = any_rank(communicator_, device_, score.has_value());
    ++position_.epoch;
    position_.batch = 0;
    const std::int64_t every = options_.checkpoint_every;
    const bool due =
        every == 0 || position_.step % every == 0 ||
        (!restartable_ && position_.step / every > std::max<std::int64_t>(saved_step_, 0) / every);
    if (due || scored || position_.epoch == options_.epochs) save(score);
    ask(report, hooks...);
  }

  // f on rank 0, and the generators put back where `put_back` is set.
  template <class F>
  void in_hooks(bool put_back, const F& f) {
    if (communicator_.rank() != 0) return;
    std::optional<GeneratorsScope> generators;
    if (put_back) generators.emplace(device_);
    in_hook_ = true;
    f();
    in_hook_ = false;
  }

  template <class Report, class... Hooks>
  void ask(const Report& report, Hooks&... hooks) {
    constexpr bool epoch = std::same_as<Report, EpochReport>;
    in_hooks(sizeof...(hooks) > 0 && (epoch || restartable_), [&] {
      stop_asked_ = detail::call_hooks(report, *this, hooks...) == Next::stop || stop_asked_;
    });
    stop_asked_ = stop_asked_ || options_.stop.stop_requested();
    // Ranks ask one another where that does not hold a device up.
    if (communicator_.size() == 1 || !asynchronous_ || position_.batch % batches_ == 0 ||
        position_.step % options_.log_every == 0) {
      stopping_ = any_rank(communicator_, device_, stop_asked_);
    }
  }

  Model model_;
  NoisifierT noisifier_;
  ObjectiveT objective_;
  CommunicatorT communicator_;
  TrainOptions options_;
  Updater updater_;
  c10::Device device_;
  bool asynchronous_;
  RunFolder folder_;
  NonfiniteBuffers nonfinite_buffers_;

  Position position_{};
  std::int64_t saved_step_ = -1;  // of the last checkpoint

  // Of the call to fit under way.
  std::int64_t batches_ = 0;
  std::int64_t steps_per_epoch_ = 0;
  bool stop_asked_ = false;  // by this rank
  bool stopping_ = false;    // as all have agreed
  Pace pace_{};
  bool restartable_ = false;  // the source
  bool rolling_back_ = false;
  bool in_hook_ = false;
  LossMeter meter_{};
};

template <class M, class N, class O = PredictionLoss<>, class C = SingleProcess>
Trainer(M&&, N, TrainOptions = {}, O = O(), C = C()) -> Trainer<model_storage_t<M>, N, O, C>;

}}  // namespace flowmatch
