#pragma once

#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "flowmatch/ode/state.hpp"

namespace flowmatch { inline namespace v0 { namespace ode {

/// The arithmetic of a batch of samples that each have a time and a step size of their own,
/// specialised for std::vector<std::array<double, N>> here and for tensors in solve/per_sample.hpp.
/// For a type of your own, specialise it with:
///
///   size(x)                          samples in x
///
///   combine(out, x, dt, c, k)        out_b = x_b + dt_b sum_i c_i k_i,b; `out` may still be empty
///
///   difference(out, c, k)            out_b = sum_i c_i k_i,b; `out` may still be empty
///
///   norms(v, dt, a, b, tolerance)    a vector of || dt_b v_b / (atol + rtol max(|a_b|, |b_b|)) ||
///
///   blend(out, chosen, from)         out_b = from_b where chosen[b] is not 0
///
///   select(x, index)                 the samples at index, in that order
///
///   scatter(out, index, x)           out_index[b] = x_b
template <class X>
struct batch_traits;

template <class T, std::size_t N>
struct batch_traits<std::vector<std::array<T, N>>> {
  using X = std::vector<std::array<T, N>>;
  using Sample = state_traits<std::array<T, N>>;

  static std::int64_t size(const X& x) { return static_cast<std::int64_t>(x.size()); }
  static void combine(X& out, const X& x, std::span<const double> dt, std::span<const double> c,
                      std::span<const X> k) {
    out.resize(x.size());
    for (std::size_t b = 0; b < x.size(); ++b) {
      for (std::size_t n = 0; n < N; ++n) {
        T sum = 0;
        for (std::size_t i = 0; i < c.size(); ++i) sum += static_cast<T>(c[i]) * k[i][b][n];
        out[b][n] = x[b][n] + static_cast<T>(dt[b]) * sum;
      }
    }
  }
  static void difference(X& out, std::span<const double> c, std::span<const X> k) {
    out.resize(k[0].size());
    for (std::size_t b = 0; b < out.size(); ++b) {
      out[b] = {};
      for (std::size_t i = 0; i < c.size(); ++i)
        for (std::size_t n = 0; n < N; ++n) out[b][n] += static_cast<T>(c[i]) * k[i][b][n];
    }
  }
  static std::vector<double> norms(const X& v, std::span<const double> dt, const X& a, const X& b,
                                   const Tolerance& tolerance) {
    std::vector<double> norms(v.size());
    for (std::size_t i = 0; i < v.size(); ++i)
      norms[i] = std::abs(dt[i]) * Sample::norm(v[i], a[i], b[i], tolerance);
    return norms;
  }
  static void blend(X& out, std::span<const char> chosen, const X& from) {
    for (std::size_t b = 0; b < out.size(); ++b)
      if (chosen[b]) out[b] = from[b];
  }
  static X select(const X& x, std::span<const std::int64_t> index) {
    X chosen;
    for (const std::int64_t i : index) chosen.push_back(x[static_cast<std::size_t>(i)]);
    return chosen;
  }
  static void scatter(X& out, std::span<const std::int64_t> index, const X& x) {
    for (std::size_t b = 0; b < index.size(); ++b) out[static_cast<std::size_t>(index[b])] = x[b];
  }
};

/// A batch of samples that the per-sample solver can advance.
/// 1. It is default-constructible and copyable. 2. batch_traits<X> has the seven functions listed
/// there.
template <class X>
concept BatchState = std::default_initializable<X> && std::copyable<X> &&
    requires(X& out, const X& x, std::span<const double> c, std::span<const X> k,
             std::span<const char> chosen, std::span<const std::int64_t> index,
             const Tolerance& tolerance) {
  { batch_traits<X>::size(x) } -> std::convertible_to<std::int64_t>;
  batch_traits<X>::combine(out, x, c, c, k);
  batch_traits<X>::difference(out, c, k);
  { batch_traits<X>::norms(x, c, x, x, tolerance) } -> std::same_as<std::vector<double>>;
  batch_traits<X>::blend(out, chosen, x);
  { batch_traits<X>::select(x, index) } -> std::convertible_to<X>;
  batch_traits<X>::scatter(out, index, x);
};

/// A right-hand side for samples at times of their own: f(x, t, samples) -> dx/dt, with t[b] the
/// time of x_b and samples[b] its place in the whole batch, for what belongs to it (a condition).
template <class F, class X>
concept BatchSystem = requires(F& f, const X& x, std::span<const double> t,
                               std::span<const std::int64_t> samples) {
  { f(x, t, samples) } -> std::convertible_to<X>;
};

}}}  // namespace flowmatch::ode
