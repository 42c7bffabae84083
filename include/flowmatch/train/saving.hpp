#pragma once

#include <torch/nn/module.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <unordered_set>
#include <vector>

#include "flowmatch/checkpoint/checkpoint.hpp"
#include "flowmatch/checkpoint/finite.hpp"
#include "flowmatch/checkpoint/folder_lock.hpp"
#include "flowmatch/checkpoint/generators.hpp"
#include "flowmatch/checkpoint/position.hpp"
#include "flowmatch/checkpoint/run_folder.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/io/manifest.hpp"
#include "flowmatch/io/read_file.hpp"
#include "flowmatch/model/state_dict.hpp"
#include "flowmatch/train/options.hpp"
#include "flowmatch/train/updater.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

/// The score that a checkpoint's manifest has, as it stands there.
inline std::optional<std::string> score_in(const std::filesystem::path& checkpoint) {
  std::error_code ignored;
  if (!std::filesystem::exists(checkpoint / "manifest.txt", ignored)) return std::nullopt;
  try {
    const auto manifest =
        Manifest::from_text(read_file<CheckpointError>(checkpoint / "manifest.txt"));
    if (manifest.contains("score")) return manifest.get("score");
  } catch (const CheckpointError&) {  // damaged: it is about to be replaced
  }
  return std::nullopt;
}

/// Throws CheckpointError where a module has the parameters of a checkpoint's weights in another
/// order: the optimizer's state is stored in it, without names.
inline void require_same_order(torch::nn::Module& module, const StateDict& weights) {
  std::vector<std::string> now, before;
  std::unordered_set<std::string> names;
  for (const auto& parameter : module.named_parameters()) {
    if (weights.contains(parameter.key())) now.push_back(parameter.key());
    names.insert(parameter.key());
  }
  for (const auto& [name, tensor] : weights) {
    if (names.count(name) > 0) before.push_back(name);
  }
  const auto [a, b] = std::mismatch(now.begin(), now.end(), before.begin(), before.end());
  if (a == now.end()) return;
  throw CheckpointError("the network's parameters come in another order than in the checkpoint: " +
                        *a + " where " + *b +
                        " was, which would give the optimizer's state to others; register its "
                        "layers in the order of then");
}

/// Throws OptionError where a checkpoint of now would be none to go on from: in mid-epoch of a
/// source that can't start there, or where other ranks have steps to judge with this one first.
inline void require_saveable(bool resumable, bool judged) {
  if (!resumable) {
    throw OptionError(
        "a checkpoint in mid-epoch, where this source cannot start again; save at an epoch's end, "
        "or give a RestartableSource");
  }
  if (!judged) {
    throw OptionError(
        "the other ranks have to look for faults before this one saves; call save() in a hook "
        "after each log_every steps, or at an epoch's end");
  }
}

}  // namespace detail

/// Writes a checkpoint of a run that stands at `position` into its folder: of its options, module,
/// updater, and with a score where that is a finite one. Where none is given, a checkpoint of this
/// step keeps the one that it has. `known`: see check_finite. Throws
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
  if (!score) {  // what lies there is this run's, says claim
    if (const auto had = detail::score_in(folder.path() / checkpoint_name(position.step)))
      manifest.set("score", *had);
  }
  options.describe(manifest);
  const Ema* const ema = updater.ema();
  write_checkpoint(folder.path(), manifest, module,
                   ema != nullptr ? std::optional(ema->state()) : std::nullopt, updater.optimizer(),
                   updater.device(), options.keep_checkpoints, known);
}

/// Takes the newest whole checkpoint of a run's folder: weights, the `updater`'s averages and
/// optimizer and, where `generators` is set, the default generators' states. Returns where the run
/// stands; nullopt where there is no checkpoint. Throws CheckpointError for damaged ones and those
/// whose parameters came in another order, OptionError naming each option that is not what the run
/// began with. `on_damaged` hears of damaged checkpoints that were passed over.
inline std::optional<Position> resume_run(
    RunFolder& folder, const TrainOptions& options, torch::nn::Module& module, Updater& updater,
    bool generators, const std::function<void(const std::string&)>& on_damaged) {
  const std::optional<Checkpoint> found = latest_checkpoint(folder.path(), on_damaged);
  if (!found) return std::nullopt;
  updater.require_trainable();
  options.require_same(found->manifest);
  const Position position = Position::from(found->manifest);
  const StateDict weights = read_state_dict(found->path / "model.pt");
  detail::require_same_order(module, weights);
  const StateDict states = read_state_dict(found->path / "generators.pt");
  // First what may still be refused; weights that do not fit are so below, before any change.
  if (compare_state_dict(module, weights).fits()) updater.restore(*found);
  load_state_dict(module, weights);
  if (generators) restore_generators(states, updater.device());
  folder.adopt(found->manifest);
  return position;
}

}}  // namespace flowmatch
