#pragma once

#include <ATen/Functions.h>

#include <cstdint>
#include <string>

#include "flowmatch/core/expand.hpp"

/// What all metrics ask of features: a tensor [N, D], a row a sample, of any real dtype on any
/// device. Work is done in float64, on blocks of rows.

namespace flowmatch { inline namespace v0 {

/// Throws ShapeError unless x is [N, D] of real numbers with D > 0, DataError for fewer rows than
/// `least`. `name` appears in messages.
inline void check_features(const at::Tensor& x, const char* name, std::int64_t least = 1) {
  if (!x.defined() || x.dim() != 2 || x.size(1) == 0 || x.is_complex()) {
    throw ShapeError(std::string(name) + " have shape " + shape_text(x) +
                     "; give real features [N, D], a row a sample (flatten images)");
  }
  if (x.size(0) < least) {
    throw DataError(std::string(name) + " are " + std::to_string(x.size(0)) +
                    " samples; this needs at least " + std::to_string(least));
  }
}

/// The same for two sets of features x and y, which must be of one dimension and hold at least
/// `least` each; errors call them `name_x` and `name_y`.
inline void check_features(const at::Tensor& x, const char* name_x, const at::Tensor& y,
                           const char* name_y, std::int64_t least = 1) {
  check_features(x, name_x, least);
  check_features(y, name_y, least);
  if (x.size(1) != y.size(1)) {
    throw ShapeError(std::string(name_x) + " have dimension " + std::to_string(x.size(1)) +
                     " and " + name_y + " " + std::to_string(y.size(1)) +
                     "; both must come from the same features");
  }
}

/// Rows [first, first + rows) in float64, on `device`. Throws DataError where one is NaN, infinite
/// or beyond 1e50: products of such numbers overflow.
inline at::Tensor feature_block(const at::Tensor& x, std::int64_t first, std::int64_t rows,
                                c10::Device device) {
  const at::Tensor block =
      x.detach().slice(0, first, first + rows).to(x.options().device(device).dtype(at::kDouble));
  if (!block.abs().le(1e50).all().item<bool>()) {
    throw DataError("features hold NaN or infinity, or numbers beyond 1e50, between rows " +
                    std::to_string(first) + " and " + std::to_string(first + block.size(0)) +
                    "; look at the samples that they come from");
  }
  return block;
}

namespace detail {

/// Calls f(first) for the first row of each block of `rows` rows out of n.
template <class F>
void each_block(std::int64_t n, std::int64_t rows, F f) {
  for (std::int64_t first = 0; first < n; first += rows) f(first);
}

/// Rows of a block: two blocks and the matrix of their pairs stay small beside any set of features.
constexpr std::int64_t block_rows = 1024;

}  // namespace detail

}}  // namespace flowmatch
