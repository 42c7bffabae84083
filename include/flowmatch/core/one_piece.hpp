#pragma once

#include <ATen/Functions.h>

#include <cstdint>
#include <vector>

namespace flowmatch { inline namespace v0 { namespace detail {

/// A copy of all elements of `tensors`, of one dtype and device, one tensor after the other [N]: of
/// hundreds of small ones, where an operation for each would hold a GPU up.
inline at::Tensor in_one_piece(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> flat;
  for (const at::Tensor& tensor : tensors) flat.push_back(tensor.reshape(-1));
  return at::cat(flat);
}

/// The way back: copies the elements of `piece` to `tensors`.
inline void copy_from_one_piece(const std::vector<at::Tensor>& tensors, const at::Tensor& piece) {
  std::vector<at::Tensor> parts;
  std::int64_t begin = 0;
  for (const at::Tensor& tensor : tensors) {
    parts.push_back(piece.narrow(0, begin, tensor.numel()).view(tensor.sizes()));
    begin += tensor.numel();
  }
  at::_foreach_copy_(tensors, parts);
}

}}}  // namespace flowmatch::detail
