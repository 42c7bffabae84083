#pragma once

#include <ATen/Functions.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/noisify/noisifier.hpp"

namespace flowmatch { inline namespace v0 {

/// The samples of `condition` [N], those in `drop` (bool [N]) replaced by `null`, one sample's.
template <Condition C>
C with_null(const C& condition, const C& null, const at::Tensor& drop) {
  using traits = condition_traits<C>;
  const std::int64_t n = drop.size(0);
  const at::Tensor index = at::where(drop, n, at::arange(n, drop.options().dtype(at::kLong)));
  return traits::index_select(
      traits::cat(std::vector<C>{condition, traits::to(null, drop.device())}), index);
}

/// A noisifier whose examples have no condition now and then, so that one network learns both
/// velocities that `ClassifierFreeGuidance` needs: each sample's is replaced by `null`, one
/// sample's condition that stands for none, with a probability (Ho & Salimans 2022: 0.1 to 0.2).
///
///     fm::ConditionDropout noisifier(fm::VelocityNoisifier(fm::LinearPath{}),
///     torch::tensor({10}));
///
/// Throws OptionError for a probability outside [0, 1], ShapeError for a null that holds another
/// number of entries than one.
template <class NoisifierT, Condition C>
requires Noisifier<NoisifierT, C>
class ConditionDropout {
 public:
  /// Of a noisifier.
  ConditionDropout(NoisifierT noisifier, C null, double probability = 0.1)
      : noisifier_(std::move(noisifier)), null_(std::move(null)), probability_(probability) {
    if (!(probability >= 0 && probability <= 1)) {
      throw OptionError("a probability of " + number_text(probability) +
                        " to drop a condition; choose one in [0, 1]");
    }
    check_condition_size(null_, 1);
  }

  /// A training example of a batch.
  auto operator()(const Batch<C>& batch, Rng& rng) const {
    auto noised = noisifier_(batch, rng);
    const at::Tensor drop =
        rng.uniform({noised.x_t.size(0)}).to(noised.x_t.device()) < probability_;
    noised.condition = with_null(noised.condition, null_, drop);
    return noised;
  }

  /// The noisifier inside.
  const NoisifierT& noisifier() const noexcept { return noisifier_; }

 private:
  NoisifierT noisifier_;
  C null_;
  double probability_;
};

}}  // namespace flowmatch
