#pragma once

#include <c10/core/Device.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <stop_token>
#include <string>

#include "flowmatch/core/error.hpp"
#include "flowmatch/io/manifest.hpp"
#include "flowmatch/optim/learning_rate.hpp"
#include "flowmatch/optim/optimizer.hpp"
#include "flowmatch/optim/precision.hpp"
#include "flowmatch/train/nonfinite.hpp"

namespace flowmatch { inline namespace v0 {

/// All that is to be said of a run.
struct TrainOptions {
  std::int64_t epochs = 1;      ///< passes over the data, at least 1
  double learning_rate = 1e-3;  ///< what the schedule's factor applies to; one-cycle's maximum
  OptimizerFactory optimizer = adam();         ///< see optim/optimizer.hpp
  LearningRateSchedule schedule = constant();  ///< see optim/learning_rate.hpp
  std::int64_t accumulate = 1;               ///< batches whose gradients are averaged for one step
  double clip_norm = 0;                      ///< maximum norm of the gradient; 0: no clipping
  double ema_decay = 0;                      ///< of the averaged weights; 0: none are kept
  bool ema_warmup = true;                    ///< see Ema
  Precision precision = Precision::float32;  ///< see optim/precision.hpp
  bool channels_last = false;                ///< lays convolution weights out channels-last
  /// On a CUDA device: the way forward and backward is recorded once and replayed (CudaGraph), so
  /// that a small network is not held up by the program. For a model that computes the same at
  /// every step: what its code reads or decides on the CPU stays as it was when it was recorded.
  bool cuda_graph = false;
  /// On the CPU: a batch goes through the model in parts, one on each of LibTorch's threads, and
  /// their gradients are summed, instead of each operation on all threads. Small networks gain
  /// most. Unset: where batches are large enough for it to pay and it is sure to mean the same: the
  /// model is made of LibTorch's own layers that neither write nor draw anything (no BatchNorm, no
  /// Dropout), the objective is a mean over samples (`mean_over_samples`), and there is one rank.
  /// True: for all models and objectives; both have to answer for each sample by itself, and the
  /// model has to bear calls from several threads.
  std::optional<bool> parallel{};
  OnNonfinite on_nonfinite = OnNonfinite::stop;  ///< see train/nonfinite.hpp
  std::uint64_t seed = 0;  ///< of times, noise and whatever else the noisifier draws
  /// Whether a look at a number holds the device up, so that losses and faults are looked at each
  /// `log_every` steps only; unset: on all devices but the CPU.
  std::optional<bool> asynchronous{};
  std::int64_t log_every = 50;  ///< steps between looks at the loss where `asynchronous` holds

  std::filesystem::path
      checkpoints{};                  ///< folder of the run's checkpoints; empty: none are written
  std::int64_t checkpoint_every = 0;  ///< steps between checkpoints (for a source that is no
                                      ///< RestartableSource to the next epoch's end at least); 0:
                                      ///< one at each epoch's end
  std::int64_t keep_checkpoints = 2;  ///< older ones are removed, but for the best scored one
  bool set_aside_other_runs = false;  ///< checkpoints of other runs in the folder are moved into a
                                      ///< folder `set-aside-N` in it instead of being refused
  std::map<std::string, std::string> notes{};  ///< kept in the checkpoints for whoever reads them
  std::stop_token stop{};  ///< asked after every step: ends training with a checkpoint (where the
                           ///< source is no RestartableSource, that of the last epoch's end)

  /// `asynchronous` where the weights lie on this device.
  bool asynchronous_on(c10::Device device) const { return asynchronous.value_or(!device.is_cpu()); }

  /// Throws OptionError naming what is out of range. The trainer calls it before anything else.
  void validate() const {
    const auto count = [](const char* name, std::int64_t value, std::int64_t least) {
      if (value < least) {
        throw OptionError(text_of(name, " is ", value, "; choose at least ", least));
      }
    };
    count("epochs", epochs, 1);
    count("accumulate", accumulate, 1);
    count("log_every", log_every, 1);
    count("checkpoint_every", checkpoint_every, 0);
    count("keep_checkpoints", keep_checkpoints, 1);
    if (!(learning_rate > 0) || !std::isfinite(learning_rate)) {
      throw OptionError(
          text_of("learning_rate is ", learning_rate, "; choose a finite one above 0"));
    }
    if (!(clip_norm >= 0) || !std::isfinite(clip_norm)) {
      throw OptionError(
          text_of("clip_norm is ", clip_norm, "; choose a finite one above 0, or 0 for none"));
    }
    if (!(ema_decay >= 0 && ema_decay < 1)) {
      throw OptionError(
          text_of("ema_decay is ", ema_decay, "; choose one in (0, 1), or 0 for none"));
    }
    if (cuda_graph && accumulate > 1) {
      throw OptionError(text_of("cuda_graph replaces gradients, and accumulate = ", accumulate,
                                " adds them up; choose one"));
    }
    if (on_nonfinite == OnNonfinite::roll_back && checkpoints.empty()) {
      throw OptionError(
          "on_nonfinite = roll_back goes back to checkpoints, and there are none; name a folder in "
          "`checkpoints`, or choose skip");
    }
    if (!schedule.at)
      throw OptionError("the schedule is empty; use constant(), one_cycle(), cosine_annealing() …");
    for (const auto& [name, value] : notes) {
      if (name.find_first_of("=\n") != std::string::npos) {
        throw OptionError("the name of the note '" + name +
                          "' has a '=' or a line break, which checkpoints cannot keep; leave it "
                          "out");
      }
    }
  }

  /// What has to stay the same when a run resumes, as text.
  std::map<std::string, std::string> fixed() const {
    return {{"epochs", std::to_string(epochs)},         {"learning_rate", text_of(learning_rate)},
            {"optimizer", optimizer.description},       {"schedule", schedule.description},
            {"accumulate", std::to_string(accumulate)}, {"clip_norm", text_of(clip_norm)},
            {"ema_decay", text_of(ema_decay)},          {"ema_warmup", ema_warmup ? "yes" : "no"},
            {"precision", precision_text(precision)},   {"seed", std::to_string(seed)}};
  }

  /// `fixed()` and whatever else ranks that train together have to have in common.
  std::string text() const {
    std::string all = text_of("log_every ", log_every, ", checkpoint_every ", checkpoint_every,
                              ", on_nonfinite ", static_cast<int>(on_nonfinite), ", asynchronous ",
                              asynchronous ? static_cast<int>(*asynchronous) : -1);
    for (const auto& [name, value] : fixed()) all += ", " + name + " " + value;
    return all;
  }

  /// `fixed()` and the notes, for a checkpoint.
  void describe(Manifest& manifest) const {
    for (const auto& [name, value] : fixed()) manifest.set("option." + name, value);
    for (const auto& [name, value] : notes) manifest.set("note." + name, value);
  }

  /// Throws OptionError naming each of `fixed()` that differs from what a checkpoint's manifest
  /// says.
  void require_same(const Manifest& manifest) const {
    std::string changed;
    for (const auto& [name, value] : fixed()) {
      const std::string key = "option." + name;
      // The first checkpoints knew one precision only.
      const bool first_format = name == "precision" && !manifest.contains(key);
      const std::string was = first_format ? "float32" : manifest.get(key);
      if (was != value) changed += text_of("\n  ", name, ": ", was, " before, ", value, " now");
    }
    if (!changed.empty()) {
      throw OptionError(
          "this run was begun with other options; give them again, or start a new run:" + changed);
    }
  }
};

}}  // namespace flowmatch
