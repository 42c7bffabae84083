#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <concepts>
#include <functional>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/types.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

inline OptionError no_model() {
  return OptionError(
      "the model is an empty holder or pointer; construct the network first, and give it then");
}

template <class Pointer>
auto& dereferenced(Pointer&& pointer) {
  if constexpr (requires { pointer == nullptr; }) {
    if (pointer == nullptr) throw no_model();
  }
  return *pointer;
}

/// The object that a handle stands for: what a module holder, a pointer of any kind or a
/// reference_wrapper points to, through several of them, and otherwise the object itself. Throws
/// OptionError where a handle is empty.
template <class M>
auto& pointee(M& model) {
  if constexpr (std::derived_from<std::remove_const_t<M>, torch::nn::Module>) {
    return model;
  } else if constexpr (std::is_pointer_v<std::remove_const_t<M>> &&
                       std::is_object_v<std::remove_pointer_t<M>>) {
    return pointee(dereferenced(model));
  } else if constexpr (requires {
                         typename M::ContainedType;
                         *model.ptr();
                       }) {
    if (model.is_empty()) throw no_model();
    return pointee(*model.ptr());
  } else if constexpr (requires { *model.get(); }) {
    return pointee(dereferenced(model.get()));
  } else if constexpr (requires { static_cast<typename M::type&>(model.get()); }) {
    return pointee(model.get());
  } else {
    return model;
  }
}

template <class M>
using pointee_t = std::remove_cvref_t<decltype(pointee(std::declval<M&>()))>;

}  // namespace detail

/// A module, held in any of the ways LibTorch's users hold one: the object itself, its holder
/// (TORCH_MODULE), a pointer (plain, std::shared_ptr, std::unique_ptr) or a std::reference_wrapper,
/// of the module or of its holder.
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

/// A handle of a module, or a torch::nn::AnyModule, whose type does not say which.
template <class M>
concept HoldsModule = ModuleHandle<M> || requires(pointee_t<std::remove_reference_t<M>>& m) {
  { *m.ptr() } -> std::convertible_to<const torch::nn::Module&>;
};

template <HoldsModule M>
auto& held_module(M& model) {
  if constexpr (ModuleHandle<M>) {
    return module_of(model);
  } else {
    auto& any = pointee(model);
    if constexpr (requires { any.is_empty(); }) {
      if (any.is_empty()) throw no_model();
    }
    return *any.ptr();
  }
}

/// The first parameter, or else buffer, whose dtype a module computes in: floating point of at
/// least 16 bits. Undefined where there is none.
inline at::Tensor first_floating(const torch::nn::Module& module) {
  const auto find = [](const auto& self, const torch::nn::Module& m, bool buffers) -> at::Tensor {
    for (const at::Tensor& each : buffers ? m.buffers(false) : m.parameters(false)) {
      if (each.is_floating_point() && each.element_size() > 1) return each;
    }
    for (const auto& child : m.children()) {
      if (const at::Tensor found = self(self, *child, buffers); found.defined()) return found;
    }
    return {};
  };
  const at::Tensor parameter = find(find, module, false);
  return parameter.defined() ? parameter : find(find, module, true);
}

template <class C>
inline constexpr bool is_tuple = false;
template <class... Parts>
inline constexpr bool is_tuple<std::tuple<Parts...>> = true;

/// A condition whose floating tensors, also those in tuples, have this dtype. One of any other type
/// stays as it is.
template <class C>
decltype(auto) with_dtype(const C& condition, at::ScalarType dtype) {
  if constexpr (std::same_as<C, at::Tensor>) {
    return condition.defined() && condition.is_floating_point() ? condition.to(dtype) : condition;
  } else if constexpr (is_tuple<C>) {
    return std::apply([&](const auto&... parts) { return C(with_dtype(parts, dtype)...); },
                      condition);
  } else {
    return (condition);
  }
}

}  // namespace detail

/// A model v(x, t[, condition]) of a velocity field.
/// 1. With no condition, `forward(x, t)` or `operator()(x, t)` gives a tensor of x's shape, for x
/// [B, …] and t [B].
/// 2. With a condition of type C, the same with (x, t, const C&).
/// 3. Modules need a `forward`; they may be given as objects, holders, pointers or
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

/// Calls a model in whichever way it is held. x [B, …], t [B], the condition one entry a sample. A
/// module is given x in its own dtype (of its first floating-point parameter), so are conditions
/// that are floating tensors or tuples of them, and t in float64 where that is float64, else
/// float32; so a state in float32 serves a network in bfloat16, and data in float64 one in float32.
/// A condition of another type is the module's to cast. Other callables get all as they are.
template <class M, class C = NoCondition>
at::Tensor call_model(M& model, const at::Tensor& x, const at::Tensor& t,
                      const C& condition = C{}) {
  static_assert(
      VelocityModel<M, C>,
      "flowmatch: this model cannot be called as forward(x, t) or, with a condition, forward(x, t, "
      "condition), giving a tensor; see model/velocity_model.hpp");
  if constexpr (VelocityModel<M, C>) {
    const auto answer = [&](const at::Tensor& x_, const at::Tensor& t_, const C& condition_) {
      if constexpr (std::same_as<C, NoCondition> && detail::Answers<M>) {
        return detail::answer(model, x_, t_);
      } else {
        return detail::answer(model, x_, t_, condition_);
      }
    };
    if constexpr (detail::HoldsModule<M>) {
      const at::Tensor own =
          x.is_floating_point() ? detail::first_floating(detail::held_module(model)) : at::Tensor();
      if (!own.defined()) return answer(x, t.to(time_dtype(x)), condition);
      return answer(x.to(own.scalar_type()), t.to(time_dtype(own)),
                    detail::with_dtype(condition, own.scalar_type()));
    } else {
      return answer(x, t, condition);
    }
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
                       std::reference_wrapper<std::remove_reference_t<M>>, std::decay_t<M>>;

}}  // namespace flowmatch
