#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>
#include <cstdint>

namespace flowmatch { inline namespace v0 {

/// The mean of the losses of an epoch's steps. Losses that are NaN or infinite are left out. On
/// devices other than the CPU the sum stays there until `mean` is asked for.
class LossMeter {
 public:
  /// Begins anew.
  void reset() { *this = LossMeter(); }

  /// `loss`: a scalar without a gradient.
  void add(const at::Tensor& loss) {
    if (loss.device().is_cpu()) {
      const double value = loss.item<double>();
      if (!std::isfinite(value)) return;
      sum_ += value;
      ++count_;
      return;
    }
    const at::Tensor finite = at::isfinite(loss);
    const at::Tensor value = at::where(finite, loss, at::zeros_like(loss));
    device_sum_ = device_sum_.defined() ? device_sum_ + value : value;
    device_count_ = device_count_.defined() ? device_count_ + finite : finite.to(at::kLong);
  }

  /// 0 where there was none. Waits for the device.
  double mean() const {
    if (device_sum_.defined())
      return average(device_sum_.item<double>(), device_count_.item<std::int64_t>());
    return average(sum_, count_);
  }

 private:
  static double average(double sum, std::int64_t count) {
    return count > 0 ? sum / static_cast<double>(count) : 0;
  }

  double sum_ = 0;
  std::int64_t count_ = 0;
  at::Tensor device_sum_{};
  at::Tensor device_count_{};
};

}}  // namespace flowmatch
