#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"

namespace flowmatch { inline namespace v0 { namespace ode {

/// How errors are measured: each element over atol + rtol max(|a|, |b|), then their root mean
/// square or their maximum.
enum class ErrorNorm { rms, max };

/// What an error is measured against.
struct Tolerance {
  double rtol = 1e-5;               ///< relative
  double atol = 1e-5;               ///< absolute
  ErrorNorm norm = ErrorNorm::rms;  ///< how the elements of the error are joined
};

/// The arithmetic of a state type X, specialised for double and float and for std::array and
/// std::vector of them here, for tensors in solve/tensor_state.hpp. For a type of your own,
/// specialise it with:
///
///   combine(out, x, c, k)      out = x + sum_i c_i k_i; `out` may be `x` or still be empty
///
///   difference(out, c, k)      out = sum_i c_i k_i; `out` may still be empty
///
///   norm(v, a, b, tolerance)   ||v / (atol + rtol max(|a|, |b|))||; NaN or Inf if an element is
///
///   own(k, used)               called after each evaluation k = f(used, t): throws where k does
///                              not fit `used`, and makes k independent of memory that someone
///                              else holds too; a value type has nothing to do
///
///   fit(k, x)                  optional: gives k the shape of x; called before a system writes
///                              its result into k, so that the system need not
template <class X>
struct state_traits;

namespace detail {

template <class T>
concept Real = std::floating_point<T>;

/// Element by element, over whatever has size() and operator[].
template <class X>
struct indexed_traits {
  static void fit(X& out, const X& like) {
    if constexpr (requires { out.resize(like.size()); }) {
      if (out.size() != like.size()) out.resize(like.size());
    }
  }
  static void combine(X& out, const X& x, std::span<const double> c, std::span<const X> k) {
    fit(out, x);
    for (std::size_t i = 0; i < x.size(); ++i) {
      auto sum = x[i];
      for (std::size_t j = 0; j < c.size(); ++j) sum += static_cast<decltype(sum)>(c[j]) * k[j][i];
      out[i] = sum;
    }
  }
  static void difference(X& out, std::span<const double> c, std::span<const X> k) {
    fit(out, k[0]);
    for (std::size_t i = 0; i < out.size(); ++i) {
      std::remove_cvref_t<decltype(out[i])> sum = 0;
      for (std::size_t j = 0; j < c.size(); ++j) sum += static_cast<decltype(sum)>(c[j]) * k[j][i];
      out[i] = sum;
    }
  }
  static double norm(const X& v, const X& a, const X& b, const Tolerance& tolerance) {
    double sum = 0;
    double largest = 0;
    for (std::size_t i = 0; i < v.size(); ++i) {
      const double size =
          std::max(std::abs(static_cast<double>(a[i])), std::abs(static_cast<double>(b[i])));
      const double r = static_cast<double>(v[i]) / (tolerance.atol + tolerance.rtol * size);
      sum += r * r;  // also carries NaN, which a maximum would lose
      largest = std::max(largest, std::abs(r));
    }
    if (v.size() == 0) return 0;
    if (tolerance.norm == ErrorNorm::max && std::isfinite(sum)) return largest;
    return std::sqrt(sum / static_cast<double>(v.size()));
  }
  static void own(X& k, const X& used) {
    if (k.size() != used.size()) {
      throw ShapeError("the system's derivative has " + std::to_string(k.size()) +
                       " elements for a state of " + std::to_string(used.size()) +
                       "; give it one for each");
    }
  }
};

}  // namespace detail

template <detail::Real T, std::size_t N>
struct state_traits<std::array<T, N>> : detail::indexed_traits<std::array<T, N>> {};

template <detail::Real T>
struct state_traits<std::vector<T>> : detail::indexed_traits<std::vector<T>> {};

template <detail::Real T>
struct state_traits<T> {
  using One = std::array<T, 1>;
  static void combine(T& out, const T& x, std::span<const double> c, std::span<const T> k) {
    T sum = x;
    for (std::size_t j = 0; j < c.size(); ++j) sum += static_cast<T>(c[j]) * k[j];
    out = sum;
  }
  static void difference(T& out, std::span<const double> c, std::span<const T> k) {
    combine(out, T{0}, c, k);
  }
  static double norm(T v, T a, T b, const Tolerance& tolerance) {
    return detail::indexed_traits<One>::norm(One{v}, One{a}, One{b}, tolerance);
  }
  static void own(T&, const T&) {}
};

/// A state that the integrators can advance.
/// 1. It is default-constructible and copyable. 2. state_traits<X> has the four functions listed
/// there.
template <class X>
concept State = std::default_initializable<X> && std::copyable<X> &&
    requires(X& out, const X& x, std::span<const double> c, std::span<const X> k,
             const Tolerance& tolerance) {
  state_traits<X>::combine(out, x, c, k);
  state_traits<X>::difference(out, c, k);
  { state_traits<X>::norm(x, x, x, tolerance) } -> std::convertible_to<double>;
  state_traits<X>::own(out, x);
};

/// A right-hand side dx/dt = f(x, t).
/// 1. `f(x, t)` gives a state, or 2. `f(x, t, dxdt)` writes it into dxdt and returns nothing (no
/// allocation).
template <class F, class X>
concept System = requires(F& f, const X& x, double t) {
  { f(x, t) } -> std::convertible_to<X>;
}
|| requires(F& f, const X& x, double t, X& dxdt) {
  { f(x, t, dxdt) } -> std::same_as<void>;
};

}}}  // namespace flowmatch::ode
