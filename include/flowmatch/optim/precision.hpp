#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <string>

#include "flowmatch/core/autocast.hpp"

namespace flowmatch { inline namespace v0 {

/// What the model computes in. bfloat16 and float16 are LibTorch's autocast: weights, their
/// gradients and the optimizer's state stay float32; matrix products and convolutions run in 16
/// bits (Micikevicius et al. 2018).
enum class Precision { float32, bfloat16, float16 };

/// Its name, as manifests have it.
inline std::string precision_text(Precision precision) {
  return precision == Precision::float32    ? "float32"
         : precision == Precision::bfloat16 ? "bfloat16"
                                            : "float16";
}

/// While it lives, this thread's operations on `device` run under autocast, as within Python's
/// `torch.autocast`; with float32 it does nothing.
class AutocastScope {
 public:
  /// Begins it on the device.
  AutocastScope(Precision precision, c10::Device device)
      : active_(precision != Precision::float32), type_(device.type()) {
    if (!active_) return;
    was_enabled_ = at::autocast::is_autocast_enabled(type_);
    was_dtype_ = at::autocast::get_autocast_dtype(type_);
    at::autocast::increment_nesting();
    at::autocast::set_autocast_enabled(type_, true);
    at::autocast::set_autocast_dtype(
        type_, precision == Precision::bfloat16 ? c10::kBFloat16 : c10::kHalf);
  }
  ~AutocastScope() {
    if (!active_) return;
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(type_, was_enabled_);
    at::autocast::set_autocast_dtype(type_, was_dtype_);
  }
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  bool active_;
  c10::DeviceType type_;
  bool was_enabled_ = false;
  c10::ScalarType was_dtype_ = c10::kFloat;
};

}}  // namespace flowmatch
