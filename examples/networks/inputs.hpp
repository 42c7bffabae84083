#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <tuple>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"

namespace nets {

namespace fm = flowmatch;

template <class T>
inline constexpr bool is_input = false;
template <>
inline constexpr bool is_input<at::Tensor> = true;
template <class... Parts>
inline constexpr bool is_input<std::tuple<Parts...>> = (is_input<Parts> && ...);
/// A tensor, or a tuple of tensors.
template <class T>
concept Input = is_input<T>;

/// What a network is told besides x and t. The dtype says which is which: labels are whole numbers,
/// a second time is floating, a mask holds truth values. So one `forward(x, t, rest…)` serves
/// velocities and average velocities, with and without a condition.
struct Inputs {
  at::Tensor label;  ///< int64 [B]
  at::Tensor r;      ///< [B]: the average velocity from t to r is asked for
  at::Tensor mask;   ///< bool [B, L], true where a sequence has an element

  template <Input... Rest>
  explicit Inputs(const Rest&... rest) {
    (add(rest), ...);
  }

  /// Throws ShapeError where x's samples do not all have theirs, OptionError where the network was
  /// not made for what it is told, or lacks a label.
  void check(const at::Tensor& x, const at::Tensor& t, std::int64_t classes, bool two_times) const {
    fm::check_time(t, x);
    if (r.defined()) fm::check_time(r, x);
    if (r.defined() && !two_times)
      throw fm::OptionError("this network has one time, and was given r; build it with two_times");
    if (label.defined() != (classes > 0)) {
      throw fm::OptionError(label.defined()
                                ? "this network knows no labels; build it with classes"
                                : "this network needs a label for each sample; give int64 [B]");
    }
    if (label.defined() && (label.dim() != 1 || label.size(0) != x.size(0))) {
      throw fm::ShapeError("labels have shape " + fm::shape_text(label) + " for x of shape " +
                           fm::shape_text(x) + "; give [B], one for each sample");
    }
  }

 private:
  void add(const at::Tensor& each) {
    if (!each.defined()) throw fm::ShapeError("a network's input is undefined; leave it out");
    at::Tensor& place = each.scalar_type() == at::kBool ? mask
                        : each.is_floating_point()      ? r
                                                        : label;
    if (place.defined())
      throw fm::ShapeError(
          "a network was given two inputs of one kind; labels are whole numbers, a second time is "
          "floating, a mask is of truth values");
    place = each;
  }
  template <class... Parts>
  void add(const std::tuple<Parts...>& parts) {
    std::apply([&](const auto&... each) { (add(each), ...); }, parts);
  }
};

}  // namespace nets
