#pragma once

#include <ATen/Functions.h>
#include <fmt/format.h>
#include <torch/nn/module.h>

#include <chrono>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/data/source.hpp"
#include "flowmatch/loss/objective.hpp"
#include "flowmatch/model/velocity_model.hpp"
#include "flowmatch/noisify/noisifier.hpp"
#include "flowmatch/train/checkpoint.hpp"
#include "flowmatch/train/clip.hpp"
#include "flowmatch/train/ema.hpp"
#include "flowmatch/train/hooks.hpp"
#include "flowmatch/train/options.hpp"

namespace flowmatch::inline v0 {

/// What `fit` did.
struct TrainResult {
  std::int64_t steps = 0;  ///< optimizer steps in the run so far
  double loss = 0;         ///< mean over the steps of the last epoch that was worked on
  double seconds = 0;      ///< that this call took
  bool stopped = false;    ///< by a hook or the stop token, before the last step
};

/// Trains any torch::nn::Module whose forward takes (x, t) or (x, t, condition).
///
/// Each step: batch -> noisifier -> objective -> backward -> (clip) -> optimizer -> (EMA). The
/// model is taken as a holder, a std::shared_ptr or an lvalue (kept by address); it is never copied
/// or moved. Work happens on the device of its parameters. What the noisifier draws for batch k
/// depends on the seed and k alone.
///
/// The constructor throws OptionError for options out of range, before anything happens. `fit`
/// throws TrainingError where the loss is NaN or infinite: on the CPU before that step changes a
/// weight; on other devices it is found at the next look at the loss (`log_every`), and no
/// checkpoint is written after it. Earlier checkpoints stay.
template <class Model, class NoisifierT, class ObjectiveT = PredictionLoss<>>
class Trainer {
  static_assert(
      ModuleHandle<Model>,
      "flowmatch: Trainer needs a torch::nn::Module (an lvalue, its holder or a "
      "std::shared_ptr); a lambda has no parameters to train, it can only be sampled from");
  static_assert(!std::derived_from<Model, torch::nn::Module>,
                "flowmatch: Trainer cannot move a temporary module; keep it in a variable");

 public:
  Trainer(Model model, NoisifierT noisifier, TrainOptions options = {}, ObjectiveT objective = {})
      : model_(std::move(model)),
        noisifier_(std::move(noisifier)),
        objective_(std::move(objective)),
        options_(validated(std::move(options))),
        parameters_(detail::distinct(module().parameters())),
        optimizer_(make_optimizer(options_.optimizer, parameters_, options_.learning_rate)),
        device_(parameters_.front().device()) {
    if (options_.ema_decay > 0) ema_.emplace(module(), options_.ema_decay, options_.ema_warmup);
  }

  /// Trains until `epochs` are done, from wherever the trainer stands. Hooks: see train/hooks.hpp.
  /// Throws also CheckpointError for a folder that cannot be written to, DataError for its source.
  template <class Source, class... Hooks>
  requires BatchSource<std::remove_cvref_t<Source>> &&
      (Hook<std::remove_cvref_t<Hooks>>&&...)TrainResult fit(Source&& source, Hooks&&... hooks) {
    using C = typename std::remove_cvref_t<Source>::condition_type;
    static_assert(VelocityModel<Model, C>,
                  "flowmatch: this model's forward does not take the data's condition; give it "
                  "forward(x, t, condition), or train on data without one");
    static_assert(Noisifier<NoisifierT, C>,
                  "flowmatch: the noisifier must turn a Batch<Condition> into a Noised<Condition>; "
                  "see noisify/noisifier.hpp");
    begin(source);
    while (epoch_ < options_.epochs && !stopping_) {
      start_epoch(source);
      while (batch_ < batches_ && !stopping_) step(source, hooks...);
      if (batch_ == batches_) end_epoch(hooks...);
    }
    if (stopping_ && saved_step_ != step_) save();
    return {step_, mean_loss(), seconds(), stopping_ && epoch_ < options_.epochs};
  }

  /// Goes back to the newest whole checkpoint in `options.checkpoints`: weights, averages,
  /// optimizer, position, generators. Returns false where there is none. Call it before `fit`; the
  /// next fit goes on from there, bit for bit (CPU, same binary and number of threads). Throws
  /// CheckpointError for damaged ones, OptionError naming each option that is not what the run
  /// began with. `on_damaged` hears of damaged checkpoints that were passed over.
  bool resume(const std::function<void(const std::string&)>& on_damaged = {}) {
    const std::optional<Checkpoint> found = latest_checkpoint(options_.checkpoints, on_damaged);
    if (!found) return false;
    const Manifest& manifest = found->manifest;
    options_.require_same([&](const std::string& name) { return manifest.get("option." + name); });
    load_state_dict(module(), read_state_dict(found->path / "model.pt"));
    if (ema_) ema_->load(read_state_dict(found->path / "ema.pt"), manifest.get_int("ema_updates"));
    load_optimizer(found->path, *optimizer_, device_);
    restore_generators(read_state_dict(found->path / "generators.pt"), device_);
    step_ = saved_step_ = manifest.get_int("step");
    epoch_ = manifest.get_int("epoch");
    batch_ = manifest.get_int("batch");
    data_ = manifest.get("data");
    bad_step_.reset();
    return true;
  }

  /// Writes a checkpoint of where the trainer stands, if `options.checkpoints` names a folder.
  void save() {
    if (options_.checkpoints.empty()) return;
    check_flag();
    Manifest manifest;
    manifest.set("step", step_);
    manifest.set("epoch", epoch_);
    manifest.set("batch", batch_);
    manifest.set("data", data_);
    manifest.set("ema_updates", ema_ ? ema_->updates() : 0);
    for (const auto& [name, value] : options_.fixed()) manifest.set("option." + name, value);
    for (const auto& [name, value] : options_.notes) manifest.set("note." + name, value);
    write_checkpoint(options_.checkpoints, manifest, module(),
                     ema_ ? std::optional(ema_->state()) : std::nullopt, *optimizer_, device_,
                     options_.keep_checkpoints);
    saved_step_ = step_;
  }

  auto& module() noexcept { return module_of(model_); }
  torch::optim::Optimizer& optimizer() noexcept { return *optimizer_; }
  /// The averaged weights; nullptr unless `ema_decay` is set.
  Ema* ema() noexcept { return ema_ ? &*ema_ : nullptr; }
  const TrainOptions& options() const noexcept { return options_; }
  std::int64_t steps() const noexcept { return step_; }

 private:
  using Clock = std::chrono::steady_clock;

  static TrainOptions validated(TrainOptions options) {
    options.validate();
    return options;
  }

  template <class Source>
  void begin(Source& source) {
    batches_ = source.batches_per_epoch();
    if (batches_ < 1) throw DataError("the source has no batches; give it at least one sample");
    steps_per_epoch_ = (batches_ + options_.accumulate - 1) / options_.accumulate;
    std::string data = fmt::format("{} batches an epoch", batches_);
    if constexpr (RestartableSource<Source>) data = source.fingerprint();
    if (step_ > 0 && data_ != data) {
      throw OptionError(
          "this run was begun with other data:\n  " + data_ + " before\n  " + data +
          " now\ngive it the same data, order and batch size again, or start a new run");
    }
    data_ = std::move(data);
    // A folder that cannot be written to should show now, not after the first epoch.
    if (!options_.checkpoints.empty()) AtomicDirectory(options_.checkpoints / "test");
    stopping_ = options_.stop.stop_requested();
    samples_ = 0;
    began_ = Clock::now();
    module().train();
  }

  template <class Source>
  void start_epoch(Source& source) {
    if constexpr (RestartableSource<Source>) {
      source.start_epoch(epoch_, batch_);
    } else if (batch_ == 0) {
      source.start_epoch(epoch_);
    } else {
      throw OptionError(
          "this source cannot start in mid-epoch; resume from a checkpoint at an epoch's end, or "
          "give a RestartableSource");
    }
    loss_sum_ = 0;
    loss_count_ = 0;
    device_loss_sum_.reset();
  }

  template <class Source, class... Hooks>
  void step(Source& source, Hooks&... hooks) {
    const std::int64_t parts = std::min(options_.accumulate, batches_ - batch_);
    const Rates rates = options_.schedule.at(step_, steps_per_epoch_ * options_.epochs);
    const double learning_rate = options_.learning_rate * rates.factor;
    set_rates(*optimizer_, learning_rate, rates.momentum);
    optimizer_->zero_grad();
    std::int64_t samples = 0;
    at::Tensor loss;
    for (std::int64_t part = 0; part < parts; ++part) {
      auto batch = source.next();
      if (!batch) end_early(batch_ + part);
      samples += batch->x_1.size(0);
      const at::Tensor part_loss = batch_loss(*batch, batch_ + part) / static_cast<double>(parts);
      check_finite(part_loss);
      part_loss.backward();
      loss = part == 0 ? part_loss.detach() : loss + part_loss.detach();
    }
    if (options_.clip_norm > 0) clip_grad_norm(parameters_, options_.clip_norm);
    optimizer_->step();
    if (ema_) ema_->update();
    ++step_;
    batch_ += parts;  // not before: what throws above leaves the trainer at a step's boundary
    samples_ += samples;

    auto report = report_now<StepReport>();
    report.samples = samples;
    report.learning_rate = learning_rate;
    note_loss(loss, report);
    if (options_.checkpoint_every > 0 && step_ % options_.checkpoint_every == 0 &&
        batch_ < batches_)
      save();
    ask(report, hooks...);
  }

  template <class... Hooks>
  void end_epoch(Hooks&... hooks) {
    check_flag();
    auto report = report_now<EpochReport>();
    report.loss = mean_loss();
    ++epoch_;
    batch_ = 0;
    const std::int64_t every = options_.checkpoint_every;
    if (every == 0 || step_ % every == 0 || epoch_ == options_.epochs) save();
    ask(report, hooks...);
  }

  template <class Report>
  Report report_now() const {
    Report report;
    report.step = step_;
    report.total_steps = steps_per_epoch_ * options_.epochs;
    report.epoch = epoch_;
    report.epochs = options_.epochs;
    report.seconds = seconds();
    report.samples_per_second = static_cast<double>(samples_) / report.seconds;
    return report;
  }

  template <class C>
  at::Tensor batch_loss(const Batch<C>& batch, std::int64_t number) {
    const auto k = static_cast<std::uint64_t>(epoch_ * batches_ + number);
    Rng rng = Rng(options_.seed, device_).fork("noise of a batch", k);
    const Batch<C> moved{batch.x_1.to(device_), condition_traits<C>::to(batch.condition, device_),
                         batch.x_0.defined() ? batch.x_0.to(device_) : at::Tensor{}};
    return objective_(model_, noisifier_(moved, rng));
  }

  [[noreturn]] static void fail(std::int64_t step) {
    throw TrainingError(
        fmt::format("the loss became NaN or infinite at step {}; lower the learning rate, clip "
                    "gradients (clip_norm), or look for NaN in the data",
                    step),
        step);
  }
  [[noreturn]] void end_early(std::int64_t batches) const {
    throw DataError(
        fmt::format("the source ended after {} batches of {}; make batches_per_epoch() "
                    "agree with next()",
                    batches, batches_));
  }

  // On the CPU reading the loss is free. Elsewhere a flag on the device remembers the first bad
  // step until it is read.
  void check_finite(const at::Tensor& loss) {
    if (device_.is_cpu()) {
      if (!std::isfinite(loss.item<double>())) fail(step_);
      return;
    }
    if (!bad_step_.defined())
      bad_step_ = at::full({}, -1, loss.options().dtype(at::kLong).requires_grad(false));
    bad_step_ = at::where(at::logical_and(bad_step_ < 0, at::isfinite(loss.detach()).logical_not()),
                          at::full_like(bad_step_, step_), bad_step_);
  }
  void check_flag() {
    if (!bad_step_.defined()) return;
    const auto bad = bad_step_.template item<std::int64_t>();
    if (bad >= 0) fail(bad);
  }

  void note_loss(const at::Tensor& loss, StepReport& report) {
    ++loss_count_;
    if (device_.is_cpu()) {
      report.loss = loss.item<double>();
      loss_sum_ += *report.loss;
      return;
    }
    device_loss_sum_ = device_loss_sum_.defined() ? device_loss_sum_ + loss : loss.clone();
    if (step_ % options_.log_every == 0) {
      check_flag();
      report.loss = loss.item<double>();
    }
  }
  double mean_loss() const {
    const double sum =
        device_loss_sum_.defined() ? device_loss_sum_.template item<double>() : loss_sum_;
    return loss_count_ > 0 ? sum / static_cast<double>(loss_count_) : 0;
  }

  template <class Report, class... Hooks>
  void ask(const Report& report, Hooks&... hooks) {
    ((stopping_ = detail::call_hook(hooks, report) == Next::stop || stopping_), ...);
    stopping_ = stopping_ || options_.stop.stop_requested();
  }

  double seconds() const { return std::chrono::duration<double>(Clock::now() - began_).count(); }

  Model model_;
  NoisifierT noisifier_;
  ObjectiveT objective_;
  TrainOptions options_;
  std::vector<at::Tensor> parameters_;
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
  c10::Device device_;
  std::optional<Ema> ema_{};

  // Where the run stands: optimizer steps, epoch, batches done in the epoch; what the last
  // checkpoint holds.
  std::int64_t step_ = 0;
  std::int64_t epoch_ = 0;
  std::int64_t batch_ = 0;
  std::int64_t saved_step_ = -1;
  std::string data_{};

  // Of the call to fit under way.
  std::int64_t batches_ = 0;
  std::int64_t steps_per_epoch_ = 0;
  bool stopping_ = false;
  Clock::time_point began_ = Clock::now();
  std::int64_t samples_ = 0;
  double loss_sum_ = 0;
  std::int64_t loss_count_ = 0;
  at::Tensor device_loss_sum_{};
  at::Tensor bad_step_{};
};

template <class M, class N>
Trainer(M&&, N) -> Trainer<model_storage_t<M>, N>;
template <class M, class N>
Trainer(M&&, N, TrainOptions) -> Trainer<model_storage_t<M>, N>;
template <class M, class N, class O>
Trainer(M&&, N, TrainOptions, O) -> Trainer<model_storage_t<M>, N, O>;

}  // namespace flowmatch::inline v0
