#pragma once

#include <ATen/core/Tensor.h>

#include <concepts>
#include <cstdint>

namespace flowmatch { inline namespace v0 {

/// What processes that train together, the ranks, say to each other. Every rank makes the same
/// calls in the same order, with tensors of the same shape and dtype, contiguous, on the device
/// that the ranks train on.
///
/// 1. `rank()` is this process's number in [0, size()), `size()` how many there are.
/// 2. `all_reduce(t)` begins to replace t by its sum over the ranks, the same bits on all, and
///    returns a handle; t is not to be touched before the handle's `wait()` has returned.
/// 3. `broadcast(t)` gives every rank the t of rank 0.
/// 4. `barrier()` returns once all ranks have called it.
///
/// All but the first throw CommunicationError where another rank is lost.
template <class C>
concept Communicator = requires(const C& c, const at::Tensor& t) {
  { c.rank() } -> std::convertible_to<std::int64_t>;
  { c.size() } -> std::convertible_to<std::int64_t>;
  c.all_reduce(t).wait();
  c.broadcast(t);
  c.barrier();
};

/// One process alone: nothing to say, at no cost.
struct SingleProcess {
  /// Nothing to wait for.
  struct Done {
    /// Returns at once.
    void wait() const noexcept {}
  };
  /// 0.
  static constexpr std::int64_t rank() noexcept { return 0; }
  /// 1.
  static constexpr std::int64_t size() noexcept { return 1; }
  /// The sum over one rank is what it is.
  Done all_reduce(const at::Tensor&) const noexcept { return {}; }
  /// Does nothing.
  void broadcast(const at::Tensor&) const noexcept {}
  /// Does nothing.
  void barrier() const noexcept {}
};

}}  // namespace flowmatch
