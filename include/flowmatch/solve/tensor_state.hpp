#pragma once

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "flowmatch/core/expand.hpp"
#include "flowmatch/ode/state.hpp"

namespace flowmatch { inline namespace v0 { namespace ode {

namespace detail {

/// Whether a tensor's memory was lent to LibTorch (at::from_blob, mapped files, other runtimes'
/// buffers): it has an owner whom no count shows, who may write over it at any time.
inline bool lent(const at::Tensor& x) { return !x.storage().unsafeGetStorageImpl()->resizable(); }

/// Whether nobody else holds a tensor or its values, so that writing over them changes nothing that
/// was handed out: what a model or an observer keeps stays as it was.
inline bool exclusive(const at::Tensor& x) {
  return x.defined() && x.use_count() == 1 && x.has_storage() && x.storage().use_count() == 1 &&
         !lent(x);
}

/// Whether a loop over x's values does what LibTorch's operations would: they lie on the CPU, as
/// they are, without gaps.
inline bool plain(const at::Tensor& x) {
  return x.defined() && x.is_cpu() && x.layout() == at::kStrided && x.has_storage() &&
         (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble) && !x.is_neg() &&
         !x._is_zerotensor() && x.is_non_overlapping_and_dense();
}

/// Whether such loops do for x together with y: a step then takes one pass over small tensors, for
/// which calling an operation costs more than doing it, and allocates nothing.
inline bool plain(const at::Tensor& x, std::span<const at::Tensor> y) {
  constexpr std::int64_t few = 1 << 16;
  return plain(x) && x.numel() > 0 && x.numel() <= few &&
         std::all_of(y.begin(), y.end(), [&](const at::Tensor& z) {
           return plain(z) && z.scalar_type() == x.scalar_type() && z.sizes() == x.sizes() &&
                  z.strides() == x.strides();
         });
}

/// f(T*) with the type of x's values.
template <class F>
auto with_values(const at::Tensor& x, F f) {
  return x.scalar_type() == at::kFloat ? f(static_cast<float*>(nullptr))
                                       : f(static_cast<double*>(nullptr));
}

/// out += sum_i c_i k_i
inline void add_to(at::Tensor& out, std::span<const double> c, std::span<const at::Tensor> k) {
  with_values(out, [&]<class T>(T*) {
    T* sum = out.mutable_data_ptr<T>();
    const std::int64_t size = out.numel();
    for (std::size_t i = 0; i < c.size(); ++i) {
      if (c[i] == 0) continue;
      const T* slope = k[i].const_data_ptr<T>();
      const T weight = static_cast<T>(c[i]);
      for (std::int64_t j = 0; j < size; ++j) sum[j] += weight * slope[j];
    }
  });
  out.unsafeGetTensorImpl()->bump_version();  // as operations in place do
}

}  // namespace detail

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
    if (begun && !detail::exclusive(out)) {
      out = x.clone();
    } else if (!begun && !fits(out, x)) {
      out = at::empty_like(x);
    }
    // One slope is one operation already, with one rounding.
    if (k.size() > 1 && detail::plain(out, std::span(&x, 1)) && detail::plain(out, k)) {
      if (!begun) std::memcpy(out.mutable_data_ptr(), x.const_data_ptr(), x.nbytes());
      detail::add_to(out, c, k);
      return;
    }
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
    if (detail::plain(out, k)) {
      std::memset(out.mutable_data_ptr(), 0, out.nbytes());
      detail::add_to(out, c, k);
      return;
    }
    out.copy_(k[0]).mul_(c[0]);
    for (std::size_t i = 1; i < c.size(); ++i) {
      if (c[i] != 0) out.add_(k[i], c[i]);
    }
  }

  static double norm(const at::Tensor& v, const at::Tensor& a, const at::Tensor& b,
                     const Tolerance& tolerance) {
    const at::NoGradGuard no_grad;
    if (v.numel() == 0) return 0;
    // The same formula on tensors below, for whatever no plain loop can do.
    if (detail::plain(v, std::span(&a, 1)) && detail::plain(v, std::span(&b, 1))) {
      return detail::with_values(v, [&]<class T>(T*) {
        const auto values = [&](const at::Tensor& t) {
          return std::span(t.const_data_ptr<T>(), static_cast<std::size_t>(t.numel()));
        };
        return detail::indexed_traits<std::span<const T>>::norm(values(v), values(a), values(b),
                                                                tolerance);
      });
    }
    // In float32 at least: squares in float16 overflow from 256 on.
    const at::ScalarType type = at::promote_types(at::toRealValueType(v.scalar_type()), at::kFloat);
    const at::Tensor size =
        at::maximum(a.abs(), b.abs()).to(type).mul_(tolerance.rtol).add_(tolerance.atol);
    const at::Tensor r = v.abs().to(type).div_(size);
    return (tolerance.norm == ErrorNorm::max ? r.max() : r.square_().mean().sqrt_()).item<double>();
  }

  /// A model may return its input, a constant, or the same buffer each time (a tensor's, or its own
  /// by at::from_blob), all of which the solver or the model would write over; whatever has another
  /// owner is copied.
  static void own(at::Tensor& k, const at::Tensor& used) {
    check_same_shape(k, "the model's output", used, "its input x");
    // In the state's precision: of an error estimate in half precision only rounding is left.
    if (k.scalar_type() != used.scalar_type()) k = k.to(used.scalar_type());
    // What carries a gradient may share its values with what autograd keeps for the way back.
    const bool shared =
        k.use_count() > 1 || detail::lent(k) || (!k.requires_grad() && k.storage().use_count() > 1);
    if (shared) k = k.clone();
  }

  /// A buffer for a system to write into: a new one each time where autograd may keep it.
  static void fit(at::Tensor& k, const at::Tensor& x) {
    if (at::GradMode::is_enabled() || !fits(k, x)) k = at::empty_like(x);
  }

 private:
  static bool fits(const at::Tensor& buffer, const at::Tensor& like) {
    return detail::exclusive(buffer) && !buffer.requires_grad() && buffer.sizes() == like.sizes() &&
           buffer.dtype() == like.dtype() && buffer.device() == like.device();
  }
};

}}}  // namespace flowmatch::ode
