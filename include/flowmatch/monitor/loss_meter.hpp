#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <cstdint>
#include <limits>

namespace flowmatch { inline namespace v0 {

/// The mean of the losses of an epoch's steps. Losses that are NaN or infinite are left out. The
/// sum stays on the losses' device, in float64 (float32 on devices that know no other), until
/// `mean` is asked for.
class LossMeter {
 public:
  /// Begins anew.
  void reset() { *this = LossMeter(); }

  /// `loss`: a scalar without a gradient.
  void add(const at::Tensor& loss) {
    if (loss.is_cpu()) {
      const double value = loss.item<double>();
      if (std::isfinite(value)) here_ += value, ++counted_here_;
      return;
    }
    const at::Tensor finite = at::isfinite(loss);
    const at::Tensor value =
        at::where(finite, loss, at::zeros_like(loss)).to(loss.is_mps() ? at::kFloat : at::kDouble);
    sum_ = sum_.defined() ? sum_ + value : value;
    count_ = count_.defined() ? count_ + finite : finite.to(at::kLong);
  }

  /// NaN where there was none. Waits for the device.
  double mean() const {
    const std::int64_t count = counted_here_ + (count_.defined() ? count_.item<std::int64_t>() : 0);
    const double sum = here_ + (sum_.defined() ? sum_.item<double>() : 0);
    return count > 0 ? sum / static_cast<double>(count) : std::numeric_limits<double>::quiet_NaN();
  }

 private:
  // Of losses on the CPU, where tensors of one number cost more than the number.
  double here_ = 0;
  std::int64_t counted_here_ = 0;
  // Of those on a device.
  at::Tensor sum_{};
  at::Tensor count_{};
};

}}  // namespace flowmatch
