#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

/// Where the tests' tensors lie: the CPU, or what the environment variable FLOWMATCH_TEST_DEVICE
/// names, as "cuda" or "stand_in" (tests/support/stand_in_device.cpp). Tests that are about the CPU
/// have the tag [cpu].
inline c10::Device test_device() {
  static const c10::Device device = [] {
    const char* const variable = std::getenv("FLOWMATCH_TEST_DEVICE");
    const std::string name = variable == nullptr ? "cpu" : variable;
    c10::Device named(name == "stand_in" ? "mtia" : name);
    // Tensors have an index, and compare by it.
    if (!named.is_cpu() && !named.has_index()) named.set_index(0);
    // The tests' bounds are of float32 in full, and what they repeat they want in the same bits.
    at::globalContext().setAllowTF32CuDNN(false);
    at::globalContext().setDeterministicCuDNN(true);
    return named;
  }();
  return device;
}

/// torch's functions that make tensors, on test_device(). The numbers are the CPU's on all devices.
namespace on_device {

inline at::Tensor put(const at::Tensor& tensor) { return tensor.to(test_device()); }

/// options.requires_grad(true) is of the tensor on the device.
template <class Make>
at::Tensor make(at::TensorOptions options, Make function) {
  const bool grad = options.requires_grad();
  const at::Tensor tensor = put(function(options.requires_grad(false).device(c10::kCPU)));
  return grad ? tensor.set_requires_grad(true) : tensor;
}

inline at::Tensor randn(at::IntArrayRef shape, at::TensorOptions options = {}) {
  return make(options, [&](const at::TensorOptions& o) { return torch::randn(shape, o); });
}
inline at::Tensor rand(at::IntArrayRef shape, at::TensorOptions options = {}) {
  return make(options, [&](const at::TensorOptions& o) { return torch::rand(shape, o); });
}
inline at::Tensor zeros(at::IntArrayRef shape, at::TensorOptions options = {}) {
  return make(options, [&](const at::TensorOptions& o) { return torch::zeros(shape, o); });
}
inline at::Tensor ones(at::IntArrayRef shape, at::TensorOptions options = {}) {
  return make(options, [&](const at::TensorOptions& o) { return torch::ones(shape, o); });
}
inline at::Tensor empty(at::IntArrayRef shape, at::TensorOptions options = {}) {
  return make(options, [&](const at::TensorOptions& o) { return torch::empty(shape, o); });
}
inline at::Tensor full(at::IntArrayRef shape, const at::Scalar& value,
                       at::TensorOptions options = {}) {
  return make(options, [&](const at::TensorOptions& o) { return torch::full(shape, value, o); });
}
inline at::Tensor eye(std::int64_t n, at::TensorOptions options = {}) {
  return make(options, [&](const at::TensorOptions& o) { return torch::eye(n, o); });
}
inline at::Tensor arange(const at::Scalar& end, at::TensorOptions options = {}) {
  return make(options, [&](const at::TensorOptions& o) { return torch::arange(end, o); });
}
inline at::Tensor arange(const at::Scalar& start, const at::Scalar& end,
                         at::TensorOptions options = {}) {
  return make(options, [&](const at::TensorOptions& o) { return torch::arange(start, end, o); });
}
inline at::Tensor arange(const at::Scalar& start, const at::Scalar& end, const at::Scalar& step,
                         at::TensorOptions options = {}) {
  return make(options,
              [&](const at::TensorOptions& o) { return torch::arange(start, end, step, o); });
}
inline at::Tensor linspace(const at::Scalar& start, const at::Scalar& end, std::int64_t steps,
                           at::TensorOptions options = {}) {
  return make(options,
              [&](const at::TensorOptions& o) { return torch::linspace(start, end, steps, o); });
}
inline at::Tensor randint(std::int64_t high, at::IntArrayRef shape,
                          at::TensorOptions options = at::kLong) {
  return make(options, [&](const at::TensorOptions& o) { return torch::randint(high, shape, o); });
}
inline at::Tensor randint(std::int64_t low, std::int64_t high, at::IntArrayRef shape,
                          at::TensorOptions options = at::kLong) {
  return make(options,
              [&](const at::TensorOptions& o) { return torch::randint(low, high, shape, o); });
}
inline at::Tensor tensor(torch::detail::TensorDataContainer values,
                         at::TensorOptions options = {}) {
  return make(options, [&](const at::TensorOptions& o) { return torch::tensor(values, o); });
}

/// A module on test_device(), for the tests that are about no other.
template <class Module>
Module module(Module module) {
  module->to(test_device());
  return module;
}

}  // namespace on_device
