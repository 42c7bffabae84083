#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <concepts>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "flowmatch/model/velocity_model.hpp"

namespace flowmatch { inline namespace v0 {

/// Calls f(torch::nn::Module&) with each module that lies in a model, however it is held: the
/// module itself, what a holder or pointer points to, and those in an adapter, or in an adapter of
/// an adapter. Everything that the library does for a model's modules goes through here: evaluation
/// mode, their dtype, their device.
///
/// A class of your own that wraps a model joins by a member function: `model()`, which gives a
/// reference to what it wraps, or `models()`, which gives several as std::tie(a, b). What a lambda
/// captures cannot be seen: put such a module into evaluation mode yourself.
template <class M, class F>
void for_each_module(M& model, const F& f) {
  auto& inside = detail::pointee(model);
  if constexpr (detail::HoldsModule<M>) {
    f(detail::held_module(model));
  } else if constexpr (requires { std::tuple_size<decltype(inside.models())>::value; }) {
    std::apply([&](auto&&... each) { (for_each_module(each, f), ...); }, inside.models());
  } else if constexpr (requires { inside.model(); }) {
    auto&& wrapped = inside.model();
    for_each_module(wrapped, f);
  }
}

/// The parameters of all modules in a model, each once.
template <class M>
std::vector<at::Tensor> parameters_in(M& model) {
  std::vector<at::Tensor> found;
  for_each_module(model, [&](const torch::nn::Module& module) {
    for (const at::Tensor& p : module.parameters()) {
      const auto same = [&](const at::Tensor& other) { return other.is_same(p); };
      if (std::none_of(found.begin(), found.end(), same)) found.push_back(p);
    }
  });
  return found;
}

/// Where a model lies and what it computes in.
struct Placement {
  c10::Device device;    ///< where inputs have to be
  at::ScalarType dtype;  ///< what inputs have to be of
};

/// The device and dtype of the first floating-point parameter (or else buffer) of at least 16 bits
/// in a model's modules; nullopt where there is none, as in a lambda.
template <class M>
std::optional<Placement> placement_of(M& model) {
  std::optional<Placement> found;
  for_each_module(model, [&](const torch::nn::Module& module) {
    const at::Tensor tensor = found ? at::Tensor{} : detail::first_floating(module);
    if (tensor.defined()) found = Placement{tensor.device(), tensor.scalar_type()};
  });
  return found;
}

namespace detail {

template <class M>
auto velocity_scheduler() {
  using Inside = pointee_t<M>;
  if constexpr (requires { typename Inside::scheduler_type; }) {
    return std::type_identity<typename Inside::scheduler_type>{};
  } else if constexpr (requires(Inside & inside) { inside.model(); }) {
    return velocity_scheduler<std::remove_cvref_t<decltype(std::declval<Inside&>().model())>>();
  } else {
    return std::type_identity<void>{};
  }
}

template <class T>
constexpr bool says_singular_at_end() {
  if constexpr (requires { T::singular_at_end; }) {
    return T::singular_at_end;
  } else {
    return false;
  }
}

template <class M>
constexpr bool is_singular_at_end() {
  using Inside = pointee_t<M>;
  if constexpr (requires(Inside & inside) { inside.model(); }) {
    using Wrapped = std::remove_cvref_t<decltype(std::declval<Inside&>().model())>;
    if (is_singular_at_end<Wrapped>()) return true;
  }
  return says_singular_at_end<Inside>() ||
         says_singular_at_end<typename decltype(velocity_scheduler<M>())::type>();
}

}  // namespace detail

/// Whether a model's velocity is known to be singular at t = 1, where a Sampler then comes by
/// Euler's method: its type says so by a static member of that name, as VelocityFromX1 does, or the
/// scheduler of its path does, or the model in an adapter.
template <class M>
inline constexpr bool singular_at_end = detail::is_singular_at_end<M>();

/// The scheduler of the path along which a model is a velocity, where the model's type says so by a
/// member `scheduler_type`, as adapters do; void where it does not, as in a network.
template <class M>
using velocity_scheduler_t = typename decltype(detail::velocity_scheduler<M>())::type;

}}  // namespace flowmatch
