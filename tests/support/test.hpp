#pragma once

#include <torch/torch.h>  // before test_std.hpp

#include "tests/support/device.hpp"
#include "tests/support/temporary_folder.hpp"
#include "tests/support/test_std.hpp"

namespace flowmatch {
}
namespace fm = flowmatch;

/// Whether a and b have the same shape, dtype and device and every pair of elements is within atol
/// + rtol |b|.
inline bool close(const at::Tensor& a, const at::Tensor& b, double rtol = 1e-12,
                  double atol = 1e-12) {
  return a.sizes() == b.sizes() && a.dtype() == b.dtype() && a.device() == b.device() &&
         at::allclose(a, b, rtol, atol);
}

/// A double tensor from numbers, on test_device().
inline at::Tensor doubles(const std::vector<double>& values) {
  return on_device::tensor(values, torch::kDouble);
}

/// LibTorch's number of threads, while it lives.
class Threads {
 public:
  explicit Threads(int n) { at::set_num_threads(n); }
  ~Threads() { at::set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_ = at::get_num_threads();
};
