#pragma once

#include <ATen/Functions.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/one_piece.hpp"
#include "flowmatch/model/state_dict.hpp"
#include "flowmatch/optim/lending.hpp"
#include "flowmatch/optim/module_tensors.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

/// All averages of a module. Shared with the scopes, so that these may outlive the Ema and the
/// module.
class Averages {
 public:
  explicit Averages(torch::nn::Module& module)
      : module_(&module), tensors_(module), lendings_(&Lendings::all()) {
    const OwnWeights own(module);
    const PlainTensors plain;
    const auto add = [&](const at::Tensor& live, bool buffer) {
      if (!index_.emplace(live.unsafeGetTensorImpl(), entries_.size()).second) return;
      const at::ScalarType dtype = average_dtype(live.scalar_type());
      const at::Tensor average = live.detach().to(dtype, false, /*copy=*/true);
      entries_.push_back({live, average, buffer});
    };
    for (const auto& each : tensors_.parameters())
      add(each.tensor, /*buffer=*/!each.tensor.requires_grad());
    for (const auto& each : tensors_.buffers()) add(each.tensor, true);
  }

  // Whether they are in the module.
  bool lent() const noexcept {
    return std::any_of(entries_.begin(), entries_.end(),
                       [](const Average& each) { return each.lent.defined(); });
  }
  // Whether they are, or those of others.
  bool any_lent() const {
    return std::any_of(entries_.begin(), entries_.end(),
                       [&](const Average& each) { return lendings_->lent(each.live); });
  }
  void require_unchanged() const { tensors_.require_unchanged("the averaged weights (Ema)"); }

  void update(double decay) {
    const PlainTensors plain;
    std::vector<at::Tensor> averages, values, copies, originals;
    std::map<std::pair<at::ScalarType, std::string>, std::vector<Average*>> buffers;
    for (Average& entry : entries_) {
      if (!(entry.average.is_floating_point() || entry.average.is_complex())) {
        copies.push_back(entry.average);
        originals.push_back(entry.live);
      } else if (entry.buffer) {
        buffers[{entry.average.scalar_type(), entry.average.device().str()}].push_back(&entry);
      } else {
        averages.push_back(entry.average);
        values.push_back(entry.value());
      }
    }
    if (!averages.empty()) at::_foreach_lerp_(averages, values, 1 - decay);
    if (!copies.empty()) at::_foreach_copy_(copies, originals);
    for (const auto& [alike, entries] : buffers) update_where_finite(entries, decay);
  }

  StateDict state() const {
    const PlainTensors plain;
    StateDict state;
    for (const auto* named : {&tensors_.parameters(), &tensors_.buffers()}) {
      for (const auto& each : *named)
        state.insert(each.name, entries_[index_.at(each.tensor.unsafeGetTensorImpl())].current());
    }
    return state;
  }

  void load(const StateDict& state) {
    const PlainTensors plain;
    const LoadReport report = compare_state_dict(*module_, state);
    if (!report.fits()) {
      throw CheckpointError(
          "the stored averages belong to another network; build the module with "
          "the options that it was trained with:\n" +
          report.text());
    }
    std::vector<at::Tensor> averages(entries_.size());
    for (const auto* named : {&tensors_.parameters(), &tensors_.buffers()}) {
      for (const auto& each : *named) {
        const std::size_t i = index_.at(each.tensor.unsafeGetTensorImpl());
        const at::Tensor& stored = state.at(each.name);
        const at::Tensor& before = entries_[i].average;
        if (stored.is_complex() != before.is_complex()) {
          throw CheckpointError("the stored average of " + each.name + " is " +
                                toString(stored.scalar_type()) + ", the module's is " +
                                toString(before.scalar_type()) +
                                "; build the module that it was trained with");
        }
        averages[i] = stored.detach().to(before.options(), false, /*copy=*/true);
      }
    }
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      Average& entry = entries_[i];
      entry.average = averages[i];
      if (!entry.lent.defined()) continue;
      entry.lent = entry.lendable();
      entry.live.set_data(entry.lent);
    }
  }

  // A scope in which the module has them, or else its own weights.
  std::int64_t begin_scope(bool averaged) {
    if (averaged) require_unchanged();
    Lendings::Wishes wishes;
    for (Average& each : entries_) wishes.emplace_back(each.live, averaged ? &each : nullptr);
    return lendings_->begin(wishes);
  }
  void end_scope(std::int64_t scope) noexcept { lendings_->end(scope); }

 private:
  static at::ScalarType average_dtype(at::ScalarType dtype) {
    if (dtype == at::kDouble || dtype == at::kComplexDouble) return dtype;
    return c10::isComplexType(dtype)    ? at::kComplexFloat
           : c10::isFloatingType(dtype) ? at::kFloat
                                        : dtype;
  }

  // In one piece. An average with something infinite in it would come out as inf - inf.
  static void update_where_finite(const std::vector<Average*>& entries, double decay) {
    std::vector<at::Tensor> averages, values;
    for (Average* entry : entries) {
      averages.push_back(entry->average);
      values.push_back(entry->value());
    }
    const at::Tensor value = in_one_piece(values);
    const at::Tensor lerped = in_one_piece(averages).lerp_(value, 1 - decay);
    copy_from_one_piece(averages, at::where(lerped.isfinite(), lerped, value));
  }

  torch::nn::Module* module_;
  ModuleTensors tensors_;
  std::vector<Average> entries_{};
  std::unordered_map<const c10::TensorImpl*, std::size_t> index_{};
  Lendings* lendings_;
};

}  // namespace detail

/// An exponential moving average of a module's parameters, shadow <- d shadow + (1 - d) value, and
/// of its floating-point buffers: BatchNorm's last statistics would not fit the averaged weights.
/// With warm-up, update n uses d_n = min(decay, (1 + n) / (10 + n)), so that the average leaves the
/// initial weights behind early.
///
/// Averages are float32 (float64 and complex ones of that precision for their like), whatever the
/// module's dtype: in half precision the last steps of an average round to nothing. What has no
/// average is copied: integers, bool, and each entry of a buffer or frozen parameter that is
/// infinite or NaN, such as those of a causal mask.
///
/// A module may have several, which take turns in it. Keeps the module's address. A module that has
/// changed since (a layer added or removed, another dtype, device or shape) is refused with an
/// OptionError that names the change, by everything but a scope's end. The constructor throws
/// OptionError unless 0 < decay < 1.
class Ema {
 public:
  /// Begins with the module's own weights; `warmup` as above.
  explicit Ema(torch::nn::Module& module, double decay = 0.999, bool warmup = true)
      : decay_(decay), warmup_(warmup) {
    if (!(decay > 0 && decay < 1)) {
      throw OptionError(
          text_of("an EMA decay of ", decay, "; choose one between 0 and 1, such as 0.999"));
    }
    averages_ = std::make_shared<detail::Averages>(module);
  }
  /// Scopes that live go with it.
  Ema(Ema&&) = default;
  /// The same.
  Ema& operator=(Ema&&) = default;

  /// After each optimizer step. Throws OptionError while averages are in the module, these or
  /// another Ema's.
  void update() {
    if (averages_->any_lent()) {
      throw OptionError(
          "the averages are in the module (these, or another Ema's), which has no trained weights "
          "to average meanwhile; end the scope (Ema::swap_in) before training goes on");
    }
    averages_->require_unchanged();
    const double n = static_cast<double>(updates_++);
    averages_->update(warmup_ ? std::min(decay_, (1 + n) / (10 + n)) : decay_);
  }

  /// How often `update` was called.
  std::int64_t updates() const noexcept { return updates_; }

  /// The averages by name, in the precision that they are kept in; the same whether or not they are
  /// in the module. No copies, but for those of half precision within a scope.
  StateDict state() const {
    averages_->require_unchanged();
    return averages_->state();
  }

  /// Takes averages back that `state` gave, with their number of updates; within a scope, into the
  /// module too. Throws CheckpointError where names or shapes do not fit; nothing has changed then.
  void load(const StateDict& state, std::int64_t updates) {
    averages_->require_unchanged();
    averages_->load(state);
    updates_ = updates;
  }

  /// Whether a scope has the averages in the module.
  bool swapped_in() const noexcept { return averages_->lent(); }

  class Scope;
  /// While the scope lives, the module has the averaged weights; afterwards what it had before.
  /// What is written into the module's tensors meanwhile (BatchNorm's statistics) is kept as their
  /// average.
  [[nodiscard]] Scope swap_in();
  /// While the scope lives, the module has its own weights, also inside a scope of `swap_in`, of
  /// whichever Ema.
  [[nodiscard]] Scope swap_out();

  /// What `swap_in` and `swap_out` give. Scopes may lie inside one another, be moved, and end in
  /// any order, after the Ema too; the youngest one that lives says what the module has, whichever
  /// Ema's it is.
  class Scope {
   public:
    /// As `ema.swap_in()`.
    explicit Scope(Ema& ema) : Scope(ema, true) {}
    /// The other one ends nothing then.
    Scope(Scope&& other) noexcept = default;
    /// Exchanges the two.
    Scope& operator=(Scope&& other) noexcept {
      std::swap(averages_, other.averages_);
      std::swap(id_, other.id_);
      return *this;
    }
    ~Scope() {
      if (averages_) averages_->end_scope(id_);
    }

   private:
    friend class Ema;
    Scope(Ema& ema, bool averaged)
        : averages_(ema.averages_), id_(averages_->begin_scope(averaged)) {}

    std::shared_ptr<detail::Averages> averages_;
    std::int64_t id_;
  };

 private:
  double decay_;
  bool warmup_;
  std::int64_t updates_ = 0;
  std::shared_ptr<detail::Averages> averages_{};
};

inline Ema::Scope Ema::swap_in() { return Scope(*this, true); }
inline Ema::Scope Ema::swap_out() { return Scope(*this, false); }

}}  // namespace flowmatch
