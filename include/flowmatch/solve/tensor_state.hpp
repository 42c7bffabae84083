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
    const at::Tensor size = at::maximum(a.abs(), b.abs()).mul_(tolerance.rtol).add_(tolerance.atol);
    const at::Tensor r = (v / size).abs_();
    return (tolerance.norm == ErrorNorm::max ? r.max() : r.square_().mean().sqrt_()).item<double>();
  }

  /// A model may return its input, or the same buffer each time; the solver writes over the one and
  /// keeps the other.
  static void own(at::Tensor& k, const at::Tensor& used, std::span<const at::Tensor> previous) {
    check_same_shape(k, "the model's output", used, "its input x");
    if (at::GradMode::is_enabled()) return;
    bool shared = k.is_alias_of(used);
    for (const at::Tensor& p : previous) shared = shared || k.is_alias_of(p);
    if (shared) k = k.clone();
  }

 private:
  static bool fits(const at::Tensor& buffer, const at::Tensor& like) {
    return buffer.defined() && !buffer.requires_grad() && buffer.sizes() == like.sizes() &&
           buffer.dtype() == like.dtype() && buffer.device() == like.device();
  }
};

}  // namespace flowmatch::inline v0::ode
