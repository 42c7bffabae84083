#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "flowmatch/core/expand.hpp"

namespace flowmatch { inline namespace v0 {

/// The mean over all elements of (prediction - target)^2, in the wider of their dtypes and in
/// float32 at least. Throws ShapeError where the shapes differ (LibTorch would broadcast them and
/// train on nonsense).
struct Mse {
  static constexpr bool mean_over_samples = true;  ///< see Objective
  /// The scalar loss of two tensors of one shape.
  at::Tensor operator()(const at::Tensor& prediction, const at::Tensor& target) const {
    const at::ScalarType exact = common(prediction, target);
    return at::mse_loss(prediction.to(exact), target.to(exact));
  }
  /// The loss of each sample [B].
  at::Tensor per_sample(const at::Tensor& prediction, const at::Tensor& target) const {
    const at::ScalarType exact = common(prediction, target);
    const at::Tensor square = (prediction.to(exact) - target.to(exact)).square();
    return square.dim() > 1 ? square.flatten(1).mean(1) : square;
  }

 private:
  static at::ScalarType common(const at::Tensor& prediction, const at::Tensor& target) {
    check_same_shape(prediction, "the model's prediction", target, "the target");
    return at::promote_types(at::promote_types(prediction.scalar_type(), target.scalar_type()),
                             at::kFloat);
  }
};

}}  // namespace flowmatch
