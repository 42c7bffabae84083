#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <concepts>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include "flowmatch/core/types.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

/// The object that a handle stands for: what a module holder, a smart pointer or a
/// reference_wrapper points to, and otherwise the object itself.
template <class M>
decltype(auto) pointee(M& model) {
  if constexpr (std::derived_from<std::remove_const_t<M>, torch::nn::Module>) {
    return (model);
  } else if constexpr (requires {
                         typename M::ContainedType;
                         *model.ptr();
                       }) {
    return (*model.ptr());
  } else if constexpr (requires { *model.get(); }) {
    return (*model.get());
  } else if constexpr (requires { static_cast<typename M::type&>(model.get()); }) {
    return (model.get());
  } else {
    return (model);
  }
}

template <class M>
using pointee_t = std::remove_cvref_t<decltype(pointee(std::declval<M&>()))>;

}  // namespace detail

/// A module, held in any of the ways LibTorch's users hold one: the object itself, its holder
/// (TORCH_MODULE), a std::shared_ptr or a std::reference_wrapper.
template <class M>
concept ModuleHandle =
    std::derived_from<detail::pointee_t<std::remove_reference_t<M>>, torch::nn::Module>;

/// The module behind a handle.
template <ModuleHandle M>
auto& module_of(M& model) {
  return detail::pointee(model);
}

namespace detail {

// A module holder's operator() is not SFINAE-friendly, so modules are asked for `forward`.
template <class M, class... Condition>
concept HasForward = requires(pointee_t<M>& m, const at::Tensor& x, const Condition&... condition) {
  { m.forward(x, x, condition...) } -> std::convertible_to<at::Tensor>;
};
template <class M, class... Condition>
concept HasCall = !ModuleHandle<M> &&
                  requires(pointee_t<M> & m, const at::Tensor& x, const Condition&... condition) {
  { m(x, x, condition...) } -> std::convertible_to<at::Tensor>;
};
template <class M, class... Condition>
concept Answers = HasForward<M, Condition...> || HasCall<M, Condition...>;

template <class M, class... Condition>
at::Tensor answer(M& model, const at::Tensor& x, const at::Tensor& t,
                  const Condition&... condition) {
  if constexpr (HasForward<M, Condition...>) {
    return pointee(model).forward(x, t, condition...);
  } else {
    return pointee(model)(x, t, condition...);
  }
}

}  // namespace detail

/// A model v(x, t[, condition]) of a velocity field.
/// 1. With no condition, `forward(x, t)` or `operator()(x, t)` gives a tensor of x's shape, for x
/// [B, …] and t [B].
/// 2. With a condition of type C, the same with (x, t, const C&).
/// 3. Modules need a `forward`; they may be given as objects, holders, std::shared_ptr or
/// std::reference_wrapper.
///    Anything else needs to be callable: lambdas, functions, adapters, wrapped TorchScript
///    modules.
template <class M, class C = NoCondition>
concept VelocityModel = (std::same_as<C, NoCondition> &&
                         detail::Answers<std::remove_reference_t<M>>) ||
                        detail::Answers<std::remove_reference_t<M>, C>;

/// A velocity model whose parameters can be trained.
/// 1. It is a VelocityModel. 2. It is a ModuleHandle.
template <class M, class C = NoCondition>
concept TrainableModel = VelocityModel<M, C> && ModuleHandle<M>;

/// Calls a model in whichever way it is held. x [B, …], t [B], the condition one entry a sample.
template <class M, class C = NoCondition>
at::Tensor call_model(M& model, const at::Tensor& x, const at::Tensor& t,
                      const C& condition = C{}) {
  static_assert(
      VelocityModel<M, C>,
      "flowmatch: this model cannot be called as forward(x, t) or, with a condition, forward(x, t, "
      "condition), giving a tensor; see model/velocity_model.hpp");
  if constexpr (std::same_as<C, NoCondition> && detail::Answers<M>) {
    return detail::answer(model, x, t);
  } else if constexpr (detail::Answers<M, C>) {
    return detail::answer(model, x, t, condition);
  } else {
    return {};
  }
}

/// How a class keeps a model it is given: an lvalue module by address, everything else by value (a
/// holder's or a shared_ptr's copy shares the module). Modules are never copied, never moved.
template <class M>
using model_storage_t =
    std::conditional_t<std::is_lvalue_reference_v<M> &&
                           std::derived_from<std::remove_cvref_t<M>, torch::nn::Module>,
                       std::reference_wrapper<std::remove_reference_t<M>>, std::remove_cvref_t<M>>;

}}  // namespace flowmatch
