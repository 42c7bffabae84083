#pragma once

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <span>

#include "flowmatch/core/expand.hpp"
#include "flowmatch/ode/state.hpp"

namespace flowmatch::inline v0::ode {

/// Tensors as states. With gradients off the sums go in place into the solver's buffers; with
/// gradients on (GradMode) every sum is a new tensor, so that autograd can go back through the
/// solve.
template <>
struct state_traits<at::Tensor> {
  static void combine(at::Tensor& out, const at::Tensor& x, std::span<const double> c,
                      std::span<const at::Tensor> k) {
    if (at::GradMode::is_enabled()) {
      at::Tensor sum = x;
      for (std::size_t i = 0; i < c.size(); ++i) {
        if (c[i] != 0) sum = at::add(sum, k[i], c[i]);
      }
      out = sum;
      return;
    }
    bool begun = out.is_same(x);
    if (!begun && !fits(out, x)) out = at::empty_like(x);
    for (std::size_t i = 0; i < c.size(); ++i) {
      if (c[i] == 0) continue;
      if (begun) {
        out.add_(k[i], c[i]);
      } else {
        at::add_out(out, x, k[i], c[i]);
        begun = true;
      }
    }
    if (!begun) out.copy_(x);
  }

  static void difference(at::Tensor& out, std::span<const double> c,
                         std::span<const at::Tensor> k) {
    // An error estimate takes no part in the solution, so it needs no gradient.
    const at::NoGradGuard no_grad;
    if (!fits(out, k[0])) out = at::empty_like(k[0]);
    out.copy_(k[0]).mul_(c[0]);
    for (std::size_t i = 1; i < c.size(); ++i) {
      if (c[i] != 0) out.add_(k[i], c[i]);
    }
  }

  static double norm(const at::Tensor& v, const at::Tensor& a, const at::Tensor& b,
                     const Tolerance& tolerance) {
    const at::NoGradGuard no_grad;
    if (v.numel() == 0) return 0;
    // In float32 at least: squares in float16 overflow from 256 on.
    const at::ScalarType type = at::promote_types(at::toRealValueType(v.scalar_type()), at::kFloat);
    const at::Tensor size =
        at::maximum(a.abs(), b.abs()).to(type).mul_(tolerance.rtol).add_(tolerance.atol);
    const at::Tensor r = v.abs().to(type).div_(size);
    return (tolerance.norm == ErrorNorm::max ? r.max() : r.square_().mean().sqrt_()).item<double>();
  }

  /// A model may return its input, a constant, or the same buffer each time, all of which the
  /// solver or the model would write over; whatever has another owner is copied.
  static void own(at::Tensor& k, const at::Tensor& used) {
    check_same_shape(k, "the model's output", used, "its input x");
    // In the state's precision: of an error estimate in half precision only rounding is left.
    if (k.scalar_type() != used.scalar_type()) k = k.to(used.scalar_type());
    // What carries a gradient may share its values with what autograd keeps for the way back.
    const bool shared = k.use_count() > 1 || (!k.requires_grad() && k.storage().use_count() > 1);
    if (shared) k = k.clone();
  }

  /// A buffer for a system to write into: a new one each time where autograd may keep it.
  static void fit(at::Tensor& k, const at::Tensor& x) {
    if (at::GradMode::is_enabled() || !fits(k, x)) k = at::empty_like(x);
  }

 private:
  static bool fits(const at::Tensor& buffer, const at::Tensor& like) {
    return buffer.defined() && !buffer.requires_grad() && buffer.sizes() == like.sizes() &&
           buffer.dtype() == like.dtype() && buffer.device() == like.device();
  }
};

}  // namespace flowmatch::inline v0::ode
