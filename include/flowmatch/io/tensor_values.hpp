#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <string_view>

namespace flowmatch { inline namespace v0 {

/// Whether a tensor has values that a file can hold: not one that is undefined, sparse, quantised,
/// nested or on the meta device.
inline bool has_plain_values(const at::Tensor& tensor) {
  return tensor.defined() && tensor.layout() == at::kStrided && !tensor.is_quantized() &&
         !tensor.is_nested() && !tensor.is_meta();
}

/// The values of such a tensor as they lie in a file: on the CPU, each element once and without
/// gaps, and with the conjugates and negatives that LibTorch puts off computed. Channels-last and
/// transposed tensors stay so.
inline at::Tensor plain_values(const at::Tensor& tensor) {
  const at::Tensor values = tensor.detach().cpu().resolve_conj().resolve_neg();
  return values.is_non_overlapping_and_dense() ? values : values.contiguous();
}

/// Whether each byte is a truth value, 0 or 1; others in a bool tensor are undefined behaviour.
inline bool are_truth_values(std::string_view bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](char byte) { return byte == 0 || byte == 1; });
}

}}  // namespace flowmatch
