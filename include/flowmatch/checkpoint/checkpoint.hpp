#pragma once

#include <ATen/Functions.h>
#include <torch/optim/optimizer.h>
#include <torch/serialize/input-archive.h>
#include <torch/serialize/output-archive.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "flowmatch/checkpoint/finite.hpp"
#include "flowmatch/checkpoint/generators.hpp"
#include "flowmatch/io/atomic_directory.hpp"
#include "flowmatch/io/manifest.hpp"
#include "flowmatch/io/read_file.hpp"
#include "flowmatch/io/write_file.hpp"
#include "flowmatch/model/state_dict.hpp"

/// A checkpoint is a directory `step-000000585` in the run's folder:
///
/// - manifest.txt: `key = value` lines: format, the run's identity, step, position, options, notes,
///   and every file's size and CRC-32
/// - model.pt: the weights, readable by Python's torch.load
/// - ema.pt: the averaged weights, if kept
/// - optimizer.pt: the optimizer's state
/// - generators.pt: the default generators' states (Dropout and the like draw from them)
///
/// It is written under another name, flushed and renamed, so it is there whole or not at all.

namespace flowmatch { inline namespace v0 {

/// What the first line of a checkpoint's manifest says.
inline constexpr const char* checkpoint_format = "flowmatch checkpoint 1";

namespace detail {

inline std::string file_signature(const std::filesystem::path& path) {
  const std::string bytes = read_file<CheckpointError>(path);
  return std::to_string(bytes.size()) + " bytes crc32 " + Manifest::hex(crc32(bytes));
}

}  // namespace detail

/// A checkpoint on disk that has been found whole: its folder and manifest.
struct Checkpoint {
  std::filesystem::path path;  ///< its folder
  Manifest manifest;           ///< what it says of itself
};

/// Reads a checkpoint's manifest and checks every file against it. Throws CheckpointError naming
/// what is wrong.
inline Checkpoint open_checkpoint(const std::filesystem::path& path) {
  const auto damaged = [&](const std::string& what) {
    return CheckpointError("checkpoint " + path.string() + " cannot be used: " + what +
                           "; remove it to fall back on an older one, or restore it from a copy");
  };
  std::error_code unknown;
  if (!std::filesystem::is_directory(path, unknown)) throw damaged("there is no such folder");
  Checkpoint checkpoint{path, {}};
  try {
    checkpoint.manifest = Manifest::from_text(read_file<CheckpointError>(path / "manifest.txt"));
    if (checkpoint.manifest.get("format") != checkpoint_format) {
      throw CheckpointError("its format is '" + checkpoint.manifest.get("format") +
                            "', this program reads 1");
    }
    for (const auto& [key, value] : checkpoint.manifest.entries()) {
      if (key.rfind("file.", 0) == 0 && detail::file_signature(path / key.substr(5)) != value) {
        throw CheckpointError(key.substr(5) + " is damaged: size or CRC-32 does not match");
      }
    }
  } catch (const CheckpointError& error) {
    throw damaged(error.what());
  }
  return checkpoint;
}

namespace detail {

/// The step of one that `list_checkpoints` names.
inline std::int64_t step_of(const std::filesystem::path& checkpoint) {
  const std::string name = checkpoint.filename().string();
  std::int64_t step = std::numeric_limits<std::int64_t>::max();  // of one with too many digits
  std::from_chars(name.data() + 5, name.data() + name.size(), step);
  return step;
}

}  // namespace detail

/// The checkpoints in a run's folder, oldest first, by name alone: `step-` and digits.
inline std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& folder) {
  recover_replaced(folder);
  std::vector<std::filesystem::path> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.size() > 5 && name.rfind("step-", 0) == 0 &&
        name.find_first_not_of("0123456789", 5) == std::string::npos) {
      found.push_back(entry.path());
    }
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    return std::pair(detail::step_of(a), a) < std::pair(detail::step_of(b), b);
  });
  return found;
}

namespace detail {

/// The run that a checkpoint is of, by its manifest; "" for one of a version that named none.
inline std::string run_in(const Manifest& manifest) {
  return manifest.contains("run") ? manifest.get("run") : "";
}
/// The same for one on disk; nullopt where its manifest can't be read.
inline std::optional<std::string> run_of(const std::filesystem::path& checkpoint) {
  try {
    return run_in(Manifest::from_text(read_file<CheckpointError>(checkpoint / "manifest.txt")));
  } catch (const CheckpointError&) {
    return std::nullopt;
  }
}

}  // namespace detail

/// The newest checkpoint in a run's folder that is whole, or nullopt where there is none at all. A
/// damaged newer one is passed over, and reported through `on_damaged`. Throws CheckpointError
/// where all are damaged.
inline std::optional<Checkpoint> latest_checkpoint(
    const std::filesystem::path& folder,
    const std::function<void(const std::string&)>& on_damaged = {}) {
  std::vector<std::filesystem::path> paths = list_checkpoints(folder);
  std::string first_problem;
  for (; !paths.empty(); paths.pop_back()) {
    try {
      return open_checkpoint(paths.back());
    } catch (const CheckpointError& error) {
      if (on_damaged) on_damaged(error.what());
      if (first_problem.empty()) first_problem = error.what();
    }
  }
  if (!first_problem.empty()) throw CheckpointError(first_problem);
  return std::nullopt;
}

/// Writes the optimizer's state. Throws CheckpointError.
inline void save_optimizer(const std::filesystem::path& path,
                           const torch::optim::Optimizer& optimizer) {
  torch::serialize::OutputArchive archive;
  optimizer.save(archive);
  // Through memory: LibTorch's file writer ends the program where the disk is full.
  std::string bytes;
  archive.save_to([&](const void* data, std::size_t size) {
    bytes.append(static_cast<const char*>(data), size);
    return size;
  });
  write_bytes<CheckpointError>(path, bytes);
}

/// Gives the optimizer the state that a checkpoint holds. Throws CheckpointError where it is of
/// another optimizer; nothing has changed then.
inline void load_optimizer(const std::filesystem::path& checkpoint,
                           torch::optim::Optimizer& optimizer, c10::Device device) {
  std::vector<std::unique_ptr<torch::optim::OptimizerOptions>> options;
  for (const auto& group : optimizer.param_groups()) options.push_back(group.options().clone());
  // Without what was there: a parameter may have had no gradient yet.
  auto state = std::exchange(optimizer.state(), {});
  const auto put_back = [&] {
    optimizer.state() = std::move(state);
    for (std::size_t i = 0; i < options.size(); ++i)
      optimizer.param_groups()[i].set_options(std::move(options[i]));
  };
  try {
    torch::serialize::InputArchive archive;
    archive.load_from((checkpoint / "optimizer.pt").string(), device);
    optimizer.load(archive);
  } catch (const CheckpointError&) {
    put_back();
    throw;
  } catch (const c10::Error& error) {
    put_back();
    throw CheckpointError("checkpoint " + checkpoint.string() + " is of another optimizer: " +
                          error.what_without_backtrace() + "; give the one that it was made with");
  }
}

namespace detail {

/// Those of the checkpoints whose manifest can be read and has a finite score, best (lowest) first;
/// of equal ones the newest first.
inline std::vector<std::pair<double, std::filesystem::path>> scored_checkpoints(
    const std::vector<std::filesystem::path>& checkpoints) {
  std::vector<std::pair<double, std::filesystem::path>> found;
  for (const auto& path : checkpoints) {
    try {
      const Manifest manifest =
          Manifest::from_text(read_file<CheckpointError>(path / "manifest.txt"));
      if (!manifest.contains("score")) continue;
      const double score = manifest.get_double("score");
      if (std::isfinite(score)) found.emplace(found.begin(), score, path);
    } catch (const CheckpointError&) {  // damaged: not among the good ones
    }
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  return found;
}

}  // namespace detail

/// The whole checkpoint with the lowest score, or nullopt where none has a score. A damaged one is
/// passed over, and reported through `on_damaged`.
inline std::optional<Checkpoint> best_checkpoint(
    const std::filesystem::path& folder,
    const std::function<void(const std::string&)>& on_damaged = {}) {
  for (const auto& [score, path] : detail::scored_checkpoints(list_checkpoints(folder))) {
    try {
      return open_checkpoint(path);
    } catch (const CheckpointError& error) {
      if (on_damaged) on_damaged(error.what());
    }
  }
  return std::nullopt;
}

/// Ends the writing of a checkpoint's directory: signs every file in it in the manifest, adds that,
/// and commits. Throws CheckpointError.
inline void commit_checkpoint(AtomicDirectory& directory, Manifest manifest) {
  manifest.set("format", checkpoint_format);
  for (const auto& file : std::filesystem::directory_iterator(directory.path())) {
    manifest.set("file." + file.path().filename().string(), detail::file_signature(file.path()));
  }
  write_bytes<CheckpointError>(directory.path() / "manifest.txt", manifest.to_text());
  directory.commit();
}

/// Removes all of a run's checkpoints but the `keep` newest, the best scored one and `fresh`, one
/// of them. Those of other runs stay, and those whose manifest can't be read. What killed programs
/// left of their writing goes, too.
inline void prune_checkpoints(const std::filesystem::path& folder,
                              const std::filesystem::path& fresh, std::int64_t keep) {
  remove_leftovers(folder);
  const std::optional<std::string> run = detail::run_of(fresh);
  std::vector<std::filesystem::path> own;
  for (const std::filesystem::path& path : list_checkpoints(folder)) {
    if (const auto its = detail::run_of(path); its && its == run) own.push_back(path);
  }
  const auto kept = static_cast<std::size_t>(keep);
  if (own.size() <= kept) return;
  const auto by_score = detail::scored_checkpoints(own);
  for (std::size_t i = 0; i + kept < own.size(); ++i) {
    const bool best = !by_score.empty() && own[i] == by_score.front().second;
    std::error_code ignored;
    if (own[i] != fresh && !best) std::filesystem::remove_all(own[i], ignored);
  }
}

/// What the checkpoint after `step` steps is called: `step-000000585`.
inline std::string checkpoint_name(std::int64_t step) {
  std::string number = std::to_string(step);
  number.insert(0, 9 - std::min<std::size_t>(number.size(), 9), '0');
  return "step-" + number;
}

/// Writes a checkpoint into `folder` and removes all but the `keep` newest and the best. `manifest`
/// holds step and position, and perhaps a `score` and the `run`; the files' signatures are added
/// here. Throws TrainingError for weights that are not finite (but where `known` says that they
/// never were), CheckpointError; older checkpoints are touched only after success.
inline std::filesystem::path write_checkpoint(const std::filesystem::path& folder,
                                              Manifest manifest, const torch::nn::Module& module,
                                              const std::optional<StateDict>& ema,
                                              const torch::optim::Optimizer& optimizer,
                                              c10::Device device, std::int64_t keep,
                                              const NonfiniteBuffers& known = {}) {
  check_finite(module, manifest.get_int("step"), known);
  const std::filesystem::path target = folder / checkpoint_name(manifest.get_int("step"));
  AtomicDirectory directory(target);
  save_state_dict(directory.path() / "model.pt", state_dict(module));
  if (ema) save_state_dict(directory.path() / "ema.pt", *ema);
  save_state_dict(directory.path() / "generators.pt", generator_states(device));
  save_optimizer(directory.path() / "optimizer.pt", optimizer);
  commit_checkpoint(directory, std::move(manifest));
  prune_checkpoints(folder, target, keep);
  return target;
}

}}  // namespace flowmatch
