#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "flowmatch/core/error.hpp"

namespace flowmatch { inline namespace v0 { namespace detail {

/// For a function whose result `v` at x has no derivative by x as far as autograd knows: throws
/// OptionError unless it does not look at x. Where it does, something hides the recording, and to
/// take the derivative for 0 would be silently wrong. Looks at f beside x, by another step in each
/// place, of a size that counts beside x. Where v is NaN nothing is said: that is the solver's to
/// find.
template <class F>
void require_constant(const F& f, const at::Tensor& x, const at::Tensor& v) {
  const at::NoGradGuard no_grad;
  const at::Tensor steps = at::linspace(0.01, 0.02, x.numel(), x.options().requires_grad(false));
  const at::Tensor beside = f(x + steps.view(x.sizes()) * (1 + x.abs()));
  if ((beside == v).logical_or(v.isnan()).all().item<bool>()) return;
  throw OptionError(
      "the result depends on x, but autograd has recorded no derivative by x; remove NoGradGuard, "
      "InferenceMode or detach() from the model's forward");
}

}}}  // namespace flowmatch::detail
