#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <vector>

#include "flowmatch/data/tensor_batches.hpp"
#include "flowmatch/path/affine.hpp"
#include "flowmatch/train/trainer.hpp"
#include "tests/support/networks.hpp"

namespace training {

/// 48 points of two coordinates, always the same.
inline at::Tensor points(std::int64_t n = 48) { return fm::Rng(3).normal({n, 2}); }

/// Six batches of eight points an epoch.
inline fm::TensorBatches<> batches() { return fm::TensorBatches(points(), 8); }

/// The points in order, with a NaN in batch `bad`.
inline fm::TensorBatches<> with_nan(std::int64_t bad) {
  at::Tensor x_1 = points();
  x_1[bad * 8 + 3][1] = nan_value;
  return fm::TensorBatches(x_1, 8, {.shuffle = false});
}

/// 24 images [1, 4, 4] with labels, in three batches.
inline fm::TensorBatches<at::Tensor> labelled_images() {
  return fm::TensorBatches(fm::Rng(4).normal({24, 1, 4, 4}), torch::arange(24) % 10, 8);
}

inline auto noisifier() { return fm::VelocityNoisifier(fm::LinearPath{}); }

/// A network whose initial weights come from a seed.
inline networks::Mlp mlp(std::uint64_t seed = 1, bool dropout = false) {
  at::manual_seed(seed);
  return networks::Mlp(2, 16, dropout);
}
inline networks::Conditional conditional(std::uint64_t seed = 1) {
  at::manual_seed(seed);
  return networks::Conditional();
}

/// Copies of all parameters and buffers.
inline std::vector<at::Tensor> values(const torch::nn::Module& module) {
  std::vector<at::Tensor> all;
  for (const auto& p : module.parameters()) all.push_back(p.detach().clone());
  for (const auto& b : module.buffers()) all.push_back(b.detach().clone());
  return all;
}

inline bool same_bits(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  bool same = a.size() == b.size();
  for (std::size_t i = 0; same && i < a.size(); ++i) same = torch::equal(a[i], b[i]);
  return same;
}

inline bool same_bits(const torch::nn::Module& a, const torch::nn::Module& b) {
  return same_bits(values(a), values(b));
}

/// Wherever they lie: what is read from a file is on the CPU.
inline bool same_bits(const fm::StateDict& a, const fm::StateDict& b) {
  bool same = a.size() == b.size();
  for (const auto& [name, tensor] : a) same = same && torch::equal(tensor.cpu(), b.at(name).cpu());
  return same;
}

/// A source that can only start at an epoch's beginning, and may end too early.
class PlainSource {
 public:
  using condition_type = fm::NoCondition;
  explicit PlainSource(std::int64_t ends_after = 6) : ends_after_(ends_after) {}
  std::int64_t batches_per_epoch() const { return inner_.batches_per_epoch(); }
  void start_epoch(std::int64_t epoch) {
    inner_.start_epoch(epoch);
    given_ = 0;
  }
  std::optional<fm::Batch<>> next() {
    if (given_++ == ends_after_) return std::nullopt;
    return inner_.next();
  }

 private:
  fm::TensorBatches<> inner_ = batches();
  std::int64_t ends_after_;
  std::int64_t given_ = 0;
};

/// An error in a hook or source.
struct Broken : std::runtime_error {
  Broken() : std::runtime_error("broken") {}
};

/// A hook that throws after a step.
inline auto break_after(std::int64_t step) {
  return [step](const fm::StepReport& r) {
    if (r.step == step) throw Broken();
  };
}

/// Trains until the program is killed, as it were, after a step: what then lay in the checkpoints'
/// folder is all that is left. Further hooks hear of each step first.
template <class Trainer, class Source, class... Hooks>
void train_until_killed(Trainer&& trainer, Source&& source, std::int64_t step, Hooks&&... hooks) {
  namespace fs = std::filesystem;
  const fs::path folder = trainer.options().checkpoints;
  const fs::path left = folder.string() + "-left";
  const auto kill = [&](const fm::StepReport& r) {
    if (r.step != step) return;
    fs::copy(folder, left, fs::copy_options::recursive);
    throw Broken();
  };
  REQUIRE_THROWS_AS(trainer.fit(source, hooks..., kill), Broken);
  fs::remove_all(folder);
  fs::rename(left, folder);
}

inline auto stop_after(std::int64_t step) {
  return [step](const fm::StepReport& r) {
    return r.step == step ? fm::Next::stop : fm::Next::proceed;
  };
}

}  // namespace training
