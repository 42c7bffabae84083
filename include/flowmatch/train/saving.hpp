#pragma once

#include <torch/nn/module.h>

#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "flowmatch/checkpoint/checkpoint.hpp"
#include "flowmatch/checkpoint/finite.hpp"
#include "flowmatch/checkpoint/folder_lock.hpp"
#include "flowmatch/checkpoint/generators.hpp"
#include "flowmatch/checkpoint/position.hpp"
#include "flowmatch/checkpoint/run_folder.hpp"
#include "flowmatch/io/manifest.hpp"
#include "flowmatch/model/state_dict.hpp"
#include "flowmatch/train/options.hpp"
#include "flowmatch/train/updater.hpp"

namespace flowmatch { inline namespace v0 {

/// Writes a checkpoint of a run that stands at `position` into its folder: of its options, module,
/// updater, and with a score where that is a finite one. `known`: see check_finite. Throws
/// CheckpointError, also where the folder is another run's, and TrainingError for weights that are
/// not finite, and OptionError for a module that changed (`Updater::require_unchanged`); nothing
/// has changed then. Within a scope of averages it writes the module's own weights all the same.
inline void save_run(RunFolder& folder, const Position& position, const TrainOptions& options,
                     torch::nn::Module& module, Updater& updater, const NonfiniteBuffers& known,
                     std::optional<double> score) {
  const auto own_weights = updater.own_weights();
  const std::shared_ptr<FolderLock> lock = folder.lock();
  folder.claim(position.step);
  Manifest manifest;
  folder.describe(manifest);
  position.describe(manifest);
  updater.describe(manifest);
  if (score && std::isfinite(*score)) manifest.set("score", number_text(*score));
  options.describe(manifest);
  const Ema* const ema = updater.ema();
  write_checkpoint(folder.path(), manifest, module,
                   ema != nullptr ? std::optional(ema->state()) : std::nullopt, updater.optimizer(),
                   updater.device(), options.keep_checkpoints, known);
}

/// Takes the newest whole checkpoint of a run's folder: weights, the `updater`'s averages and
/// optimizer and, where `generators` is set, the default generators' states. Returns where the run
/// stands; nullopt where there is no checkpoint. Throws CheckpointError for damaged ones,
/// OptionError naming each option that is not what the run began with. `on_damaged` hears of
/// damaged checkpoints that were passed over.
inline std::optional<Position> resume_run(
    RunFolder& folder, const TrainOptions& options, torch::nn::Module& module, Updater& updater,
    bool generators, const std::function<void(const std::string&)>& on_damaged) {
  const std::optional<Checkpoint> found = latest_checkpoint(folder.path(), on_damaged);
  if (!found) return std::nullopt;
  updater.require_trainable();
  options.require_same(found->manifest);
  const Position position = Position::from(found->manifest);
  const StateDict weights = read_state_dict(found->path / "model.pt");
  const StateDict states = read_state_dict(found->path / "generators.pt");
  // First what may still be refused; weights that do not fit are so below, before any change.
  if (compare_state_dict(module, weights).fits()) updater.restore(*found);
  load_state_dict(module, weights);
  if (generators) restore_generators(states, updater.device());
  folder.adopt(found->manifest);
  return position;
}

}}  // namespace flowmatch
