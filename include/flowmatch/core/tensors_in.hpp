#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

#include "flowmatch/core/types.hpp"

namespace flowmatch { inline namespace v0 {

/// @{ Calls f(at::Tensor&) with each tensor that a condition (of several `parts` as well), a path's
/// sample or a training example consists of, always in the same order. Overload it, beside your
/// type, for a condition of your own.
template <class F>
void for_each_tensor(at::Tensor& tensor, const F& f) {
  if (tensor.defined()) f(tensor);
}
template <class F>
void for_each_tensor(NoCondition&, const F&) {}
template <class... Parts, class F>
void for_each_tensor(std::tuple<Parts...>& parts, const F& f) {
  std::apply([&](auto&... part) { (for_each_tensor(part, f), ...); }, parts);
}
template <class F>
void for_each_tensor(PathSample& sample, const F& f) {
  for (at::Tensor* each : {&sample.x_0, &sample.x_1, &sample.t, &sample.x_t, &sample.dx_t})
    for_each_tensor(*each, f);
}
template <class F>
void for_each_tensor(NoisyPathSample& sample, const F& f) {
  for_each_tensor(static_cast<PathSample&>(sample), f);
  for (at::Tensor* each : {&sample.epsilon, &sample.sigma_t}) for_each_tensor(*each, f);
}
template <class C, class F>
void for_each_tensor(Noised<C>& example, const F& f) {
  for (at::Tensor* each : {&example.x_t, &example.t, &example.target}) for_each_tensor(*each, f);
  for_each_tensor(example.condition, f);
}
template <class Sample, class C, class F>
void for_each_tensor(NoisedSample<Sample, C>& example, const F& f) {
  for_each_tensor(static_cast<Noised<C>&>(example), f);
  for_each_tensor(example.sample, f);
}
template <class C, class F>
void for_each_tensor(TwoTimeNoised<C>& example, const F& f) {
  for_each_tensor(static_cast<Noised<C>&>(example), f);
  for (at::Tensor* each : {&example.r, &example.apart}) for_each_tensor(*each, f);
}
template <class C, class F>
void for_each_tensor(MatchingNoised<C>& example, const F& f) {
  for_each_tensor(static_cast<Noised<C>&>(example), f);
  for (at::Tensor* each : {&example.noise, &example.look}) for_each_tensor(*each, f);
}
/// @}

/// What `for_each_tensor` knows.
template <class T>
concept MadeOfTensors = requires(T& whole, void (*f)(at::Tensor&)) {
  for_each_tensor(whole, f);
};

}}  // namespace flowmatch
