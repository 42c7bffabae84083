#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "flowmatch/model/velocity_model.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

// A member that is an object is no such function, though a holder can be called like one.
template <class W>
concept WrapsOne = !requires {
  requires std::is_member_object_pointer_v<decltype(&W::model)>;
}
&&requires(W& wrapper) { wrapper.model(); };
template <class W>
concept WrapsSeveral = !requires {
  requires std::is_member_object_pointer_v<decltype(&W::models)>;
}
&&requires(W& wrapper) { wrapper.models(); };

/// Calls f with each model that a class wraps by its member functions `model()` or `models()`.
template <class Wrapper, class F>
void for_each_wrapped(Wrapper& wrapper, const F& f) {
  if constexpr (WrapsSeveral<Wrapper>) {
    auto&& all = wrapper.models();
    using All = std::remove_cvref_t<decltype(all)>;
    if constexpr (requires { std::tuple_size<All>::value; }) {
      std::apply([&](auto&&... each) { (f(each), ...); }, all);
    } else {
      static_assert(
          requires { all.begin(); },
          "flowmatch: models() returns std::tie(a, b), a tuple, or a range of models");
      for (auto&& each : all) f(each);
    }
  } else if constexpr (WrapsOne<Wrapper>) {
    auto&& wrapped = wrapper.model();
    f(wrapped);
  }
}

}  // namespace detail

/// Calls f(torch::nn::Module&) with each module that lies in a model, however it is held: the
/// module itself, what a holder or pointer points to, and those in an adapter, or in an adapter of
/// an adapter. Everything that the library does for a model's modules goes through here: evaluation
/// mode, their dtype, their device.
///
/// A class of your own that wraps a model joins by a member function: `model()`, which gives a
/// reference to what it wraps, or `models()`, which gives several, as std::tie(a, b), a tuple or a
/// range; so does a module for what is not registered in it. What a lambda captures cannot be seen:
/// put such a module into evaluation mode yourself.
template <class M, class F>
void for_each_module(M& model, const F& f) {
  if constexpr (detail::HoldsModule<M>) f(detail::held_module(model));
  detail::for_each_wrapped(detail::pointee(model), [&](auto& each) { for_each_module(each, f); });
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

/// float64 where a network is of it, else `otherwise`.
inline at::ScalarType double_or(const std::optional<Placement>& network, at::ScalarType otherwise) {
  return network && network->dtype == at::kDouble ? at::kDouble : otherwise;
}

/// The types of the models that a class wraps, as a tuple of pointers.
template <class Wrapper>
auto wrapped_types() {
  if constexpr (WrapsSeveral<Wrapper>) {
    using All = std::remove_cvref_t<decltype(std::declval<Wrapper&>().models())>;
    if constexpr (requires { std::tuple_size<All>::value; }) {
      return []<std::size_t... i>(std::index_sequence<i...>) {
        return std::tuple<std::remove_cvref_t<std::tuple_element_t<i, All>>*...>{};
      }
      (std::make_index_sequence<std::tuple_size_v<All>>{});
    } else {
      return std::tuple<std::remove_cvref_t<decltype(*std::declval<All&>().begin())>*>{};
    }
  } else if constexpr (WrapsOne<Wrapper>) {
    return std::tuple<std::remove_cvref_t<decltype(std::declval<Wrapper&>().model())>*>{};
  } else {
    return std::tuple<>{};
  }
}
template <class M>
using wrapped_types_t = decltype(wrapped_types<pointee_t<M>>());

/// The path of several models is the one that all have of which a path is known; else that of none.
struct SeveralPaths {};
template <class Scheduler>
struct PathOf {
  using type = Scheduler;
};
template <class A, class B>
auto operator+(PathOf<A>, PathOf<B>) {
  if constexpr (std::is_void_v<A>) {
    return PathOf<B>{};
  } else {
    return PathOf<std::conditional_t<std::is_void_v<B> || std::is_same_v<A, B>, A, SeveralPaths>>{};
  }
}

template <class M>
auto velocity_scheduler();
template <class... Models>
auto common_scheduler(std::tuple<Models*...>) {
  return (PathOf<void>{} + ... + velocity_scheduler<Models>());
}
template <class M>
auto velocity_scheduler() {
  if constexpr (requires { typename pointee_t<M>::scheduler_type; }) {
    return PathOf<typename pointee_t<M>::scheduler_type>{};
  } else {
    return common_scheduler(wrapped_types_t<M>{});
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
constexpr bool is_singular_at_end();
template <class... Models>
constexpr bool any_is_singular_at_end(std::tuple<Models*...>) {
  return (is_singular_at_end<Models>() || ...);
}
template <class M>
constexpr bool is_singular_at_end() {
  return says_singular_at_end<pointee_t<M>>() ||
         says_singular_at_end<typename decltype(velocity_scheduler<M>())::type>() ||
         any_is_singular_at_end(wrapped_types_t<M>{});
}

}  // namespace detail

/// Whether a model's velocity is known to be singular at t = 1, where a Sampler then comes by
/// Euler's method: its type says so by a static member of that name, as VelocityFromX1 does, or the
/// scheduler of its path does, or a model that it wraps.
template <class M>
inline constexpr bool singular_at_end = detail::is_singular_at_end<M>();

/// The scheduler of the path along which a model is a velocity, where the model's type says so by a
/// member `scheduler_type`, as adapters do, or that of a model that it wraps does; void where none
/// does, as in a network.
template <class M>
using velocity_scheduler_t = typename decltype(detail::velocity_scheduler<M>())::type;

namespace detail {

/// Whether a method that is right along one path only meets a velocity of that path, as far as the
/// model's type tells; or takes the score that the model knows itself.
template <class Model, class Method>
inline constexpr bool paths_agree = [] {
  if constexpr (requires {
                  requires Method::takes_score;
                  requires pointee_t<Model>::knows_score;
                }) {
    return true;
  } else if constexpr (requires { typename Method::scheduler_type; }) {
    using Scheduler = velocity_scheduler_t<Model>;
    return std::is_void_v<Scheduler> || std::is_same_v<Scheduler, typename Method::scheduler_type>;
  } else {
    return true;
  }
}();

}  // namespace detail

}}  // namespace flowmatch
