#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

/// The derivative of value() with respect to one element of a double tensor, a view of which is
/// given, by central differences.
template <class F>
double finite_difference(at::Tensor element, F value, double step = 1e-5) {
  const at::NoGradGuard no_grad;
  element.add_(step);
  const double up = value();
  element.sub_(2 * step);
  const double down = value();
  element.add_(step);
  return (up - down) / (2 * step);
}
