#pragma once

#include <ATen/Functions.h>

#include "examples/networks/inputs.hpp"
#include "flowmatch/model/velocity_model.hpp"

namespace nets {

/// The mean squared error over the elements that sequences have: padding counts for nothing. The
/// condition is a mask, bool [B, L] for x [B, L, D], or a tuple that holds one. Throws ShapeError
/// where there is none, or the model's output is of another shape than its target.
struct MaskedLoss {
  /// The scalar loss of a training example.
  template <class Model, Input C>
  requires fm::VelocityModel<Model, C> at::Tensor operator()(Model& model,
                                                             const fm::Noised<C>& noised) const {
    const at::Tensor v = fm::call_model(model, noised.x_t, noised.t, noised.condition);
    fm::check_same_shape(v, "the model's output", noised.target, "its target");
    const at::Tensor mask = Inputs(noised.condition).mask;
    if (!mask.defined())
      throw fm::ShapeError("MaskedLoss needs a mask; give the data one as their condition");
    const at::Tensor padding = mask.logical_not().unsqueeze(2);
    const at::Tensor error =
        (v.to(noised.target.scalar_type()) - noised.target).square().masked_fill(padding, 0);
    return error.sum() / (mask.sum() * v.size(2)).clamp_min(1);
  }
};

}  // namespace nets
