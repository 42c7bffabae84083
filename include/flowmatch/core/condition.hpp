#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <c10/core/Device.h>

#include <concepts>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/types.hpp"

namespace flowmatch { inline namespace v0 {

/// The tensor on a device. From the CPU to a CUDA device it goes through pinned memory, so that the
/// program does not wait for the copy; back to the CPU it does wait.
inline at::Tensor to_device(const at::Tensor& tensor, c10::Device device) {
  if (!tensor.defined() || tensor.device() == device) return tensor;
  const bool pin =
      tensor.is_cpu() && device.is_cuda() && tensor.layout() == at::kStrided && !tensor.is_pinned();
  return (pin ? tensor.pin_memory() : tensor).to(device, /*non_blocking=*/!device.is_cpu());
}

/// How the library handles a condition that it knows nothing about. Specialise it for a type of
/// your own with the five static functions below; `NoCondition`, `at::Tensor` and tuples of
/// supported types come with the library.
///
///   size(c)                   samples in c; -1 where c fits any number
///   index_select(c, index)    the samples at index (int64 [M])
///   repeat_interleave(c, n)   every sample n times in a row
///   cat(parts)                the parts (a std::vector) joined in order
///   to(c, device)             the same on a device
template <class Condition>
struct condition_traits;

template <>
struct condition_traits<NoCondition> {
  static std::int64_t size(const NoCondition&) { return -1; }
  static NoCondition index_select(const NoCondition&, const at::Tensor&) { return {}; }
  static NoCondition repeat_interleave(const NoCondition&, std::int64_t) { return {}; }
  static NoCondition cat(const std::vector<NoCondition>&) { return {}; }
  static NoCondition to(const NoCondition&, c10::Device) { return {}; }
};

template <>
struct condition_traits<at::Tensor> {
  static std::int64_t size(const at::Tensor& c) {
    if (!c.defined() || c.dim() == 0) {
      throw ShapeError("a tensor condition needs a first dimension of samples [B, …]; got " +
                       std::string(c.defined() ? "a scalar" : "an undefined tensor") +
                       "; pass NoCondition{} for none");
    }
    return c.size(0);
  }
  static at::Tensor index_select(const at::Tensor& c, const at::Tensor& index) {
    return c.index_select(0, index.to(c.device()));
  }
  static at::Tensor repeat_interleave(const at::Tensor& c, std::int64_t n) {
    return c.repeat_interleave(n, 0);
  }
  static at::Tensor cat(const std::vector<at::Tensor>& parts) { return at::cat(parts); }
  static at::Tensor to(const at::Tensor& c, c10::Device device) { return to_device(c, device); }
};

template <class... Parts>
struct condition_traits<std::tuple<Parts...>> {
  using Tuple = std::tuple<Parts...>;

  static std::int64_t size(const Tuple& c) {
    std::int64_t size = -1;
    each([&]<std::size_t I>() {
      const std::int64_t part = traits<I>::size(std::get<I>(c));
      if (size >= 0 && part >= 0 && part != size) {
        throw ShapeError("the parts of a tuple condition hold " + std::to_string(size) + " and " +
                         std::to_string(part) + " samples; give every part one entry a sample");
      }
      size = part >= 0 ? part : size;
    });
    return size;
  }
  static Tuple index_select(const Tuple& c, const at::Tensor& index) {
    return map([&]<std::size_t I>() { return traits<I>::index_select(std::get<I>(c), index); });
  }
  static Tuple repeat_interleave(const Tuple& c, std::int64_t n) {
    return map([&]<std::size_t I>() { return traits<I>::repeat_interleave(std::get<I>(c), n); });
  }
  static Tuple cat(const std::vector<Tuple>& tuples) {
    return map([&]<std::size_t I>() {
      std::vector<std::tuple_element_t<I, Tuple>> parts;
      for (const Tuple& tuple : tuples) parts.push_back(std::get<I>(tuple));
      return traits<I>::cat(parts);
    });
  }
  static Tuple to(const Tuple& c, c10::Device device) {
    return map([&]<std::size_t I>() { return traits<I>::to(std::get<I>(c), device); });
  }

 private:
  template <std::size_t I>
  using traits = condition_traits<std::tuple_element_t<I, Tuple>>;

  template <class F>
  static void each(F f) {
    [&]<std::size_t... I>(std::index_sequence<I...>) { (f.template operator()<I>(), ...); }
    (std::index_sequence_for<Parts...>{});
  }
  template <class F>
  static Tuple map(F f) {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return Tuple{f.template operator()<I>()...};
    }
    (std::index_sequence_for<Parts...>{});
  }
};

/// A batch on a device.
template <class C>
Batch<C> to_device(const Batch<C>& batch, c10::Device device) {
  return {to_device(batch.x_1, device), condition_traits<C>::to(batch.condition, device),
          to_device(batch.x_0, device)};
}

/// A type that can condition a model.
/// 1. It is default-constructible and copyable.
/// 2. `condition_traits<C>` has the five functions listed there.
template <class C>
concept Condition = std::default_initializable<C> && std::copyable<C> &&
    requires(const C& c, const at::Tensor& index, const std::vector<C>& parts, c10::Device device) {
  { condition_traits<C>::size(c) } -> std::convertible_to<std::int64_t>;
  { condition_traits<C>::index_select(c, index) } -> std::convertible_to<C>;
  { condition_traits<C>::repeat_interleave(c, std::int64_t{2}) } -> std::convertible_to<C>;
  { condition_traits<C>::cat(parts) } -> std::convertible_to<C>;
  { condition_traits<C>::to(c, device) } -> std::convertible_to<C>;
};

/// Throws a ShapeError unless the condition holds one entry for each of the `samples`.
template <Condition C>
void check_condition_size(const C& condition, std::int64_t samples) {
  const std::int64_t size = condition_traits<C>::size(condition);
  if (size >= 0 && size != samples) {
    throw ShapeError("the condition holds " + std::to_string(size) + " entries for " +
                     std::to_string(samples) + " samples; give it one entry a sample");
  }
}

}}  // namespace flowmatch
