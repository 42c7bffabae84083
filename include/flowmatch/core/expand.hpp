#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "flowmatch/core/error.hpp"

namespace flowmatch { inline namespace v0 {

/// A shape as people write it: [64, 1, 28, 28].
inline std::string shape_text(const at::Tensor& tensor) {
  if (!tensor.defined()) return "undefined";
  std::string text;  // not through a stream, which would write numbers as the program's locale says
  for (const std::int64_t size : tensor.sizes())
    text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

/// The dtype of times for data x: float64 for float64 data, float32 for every other, whatever the
/// model's precision (near 1, neighbouring bfloat16 numbers are 1/256 apart).
inline at::ScalarType time_dtype(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

/// The dtype of sums over many steps of x's dtype: float32 for half precision, in which small steps
/// are rounded away (complex64 for its complex numbers), and x's own otherwise.
inline at::ScalarType state_dtype(const at::Tensor& x) {
  if (x.scalar_type() == at::kComplexHalf) return at::kComplexFloat;
  return at::isReducedFloatingType(x.scalar_type()) ? at::kFloat : x.scalar_type();
}

/// Throws a ShapeError where x holds whole numbers or floats of 8 bits, which cannot be mixed with
/// noise.
inline void check_floating(const at::Tensor& x) {
  if (x.defined() && !x.is_complex() && !(x.is_floating_point() && x.element_size() > 1)) {
    throw ShapeError(
        "data of an integer dtype, or of 8 bits, cannot be mixed with noise; convert it to float32 "
        "first");
  }
}

/// Throws a ShapeError unless t is [B] for an x of [B, …].
inline void check_time(const at::Tensor& t, const at::Tensor& x) {
  if (!x.defined() || x.dim() == 0 || !t.defined() || t.dim() != 1 || t.size(0) != x.size(0)) {
    throw ShapeError("time t has shape " + shape_text(t) + " for x of shape " + shape_text(x) +
                     "; give t [B] with one time for each of x's samples [B, …]");
  }
}

/// t [B] seen as [B, 1, …], so that it broadcasts over x [B, …]. Throws a ShapeError unless the
/// sizes agree.
inline at::Tensor expand_time(const at::Tensor& t, const at::Tensor& x) {
  check_time(t, x);
  c10::SmallVector<std::int64_t, 6> shape(static_cast<std::size_t>(x.dim()), 1);
  shape[0] = t.size(0);
  return t.view(shape);
}

/// The inner product of the elements of each sample of a and b [B, …], seen as [B, 1, …].
inline at::Tensor dot_per_sample(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor product = a.mul(b);
  return product.dim() == 1 ? product : expand_time(product.flatten(1).sum(1), a);
}

/// Throws a ShapeError unless both have the same shape; it calls them `name_a` and `name_b`.
inline void check_same_shape(const at::Tensor& a, const char* name_a, const at::Tensor& b,
                             const char* name_b) {
  if (!a.defined() || !b.defined() || a.sizes() != b.sizes()) {
    throw ShapeError(std::string(name_a) + " has shape " + shape_text(a) + " and " + name_b +
                     " has shape " + shape_text(b) + "; they must be the same");
  }
}

/// A tensor without the repetitions of `expand`, whose elements share one place in memory: what of
/// it may be written to. Strides of 0 become dimensions of size 1.
inline at::Tensor without_repetitions(at::Tensor tensor) {
  for (std::int64_t d = 0; d < tensor.dim(); ++d) {
    if (tensor.stride(d) == 0 && tensor.size(d) > 1) tensor = tensor.narrow(d, 0, 1);
  }
  return tensor;
}

}}  // namespace flowmatch
