#pragma once

#include <ATen/ops/mse_loss.h>

#include "flowmatch/core/expand.hpp"

namespace flowmatch { inline namespace v0 {

/// The mean over all elements of (prediction - target)^2. Throws ShapeError where the shapes differ
/// (LibTorch would broadcast them and train on nonsense).
struct Mse {
  at::Tensor operator()(const at::Tensor& prediction, const at::Tensor& target) const {
    check_same_shape(prediction, "the model's prediction", target, "the target");
    return at::mse_loss(prediction, target);
  }
};

}}  // namespace flowmatch
