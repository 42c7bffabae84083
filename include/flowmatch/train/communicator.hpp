#pragma once

#include <ATen/Functions.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

#include <concepts>
#include <cstdint>
#include <string>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/io/crc32.hpp"

namespace flowmatch::inline v0 {

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
  struct Done {
    void wait() const noexcept {}
  };
  static constexpr std::int64_t rank() noexcept { return 0; }
  static constexpr std::int64_t size() noexcept { return 1; }
  Done all_reduce(const at::Tensor&) const noexcept { return {}; }
  void broadcast(const at::Tensor&) const noexcept {}
  void barrier() const noexcept {}
};

/// Gives these tensors, a module's parameters or buffers, the values that they have on rank 0.
/// Strides stay.
template <Communicator C>
void broadcast_all(const C& communicator, const std::vector<at::Tensor>& tensors) {
  if (communicator.size() == 1) return;
  const at::NoGradGuard no_grad;
  for (const at::Tensor& tensor : tensors) {
    const at::Tensor values = tensor.detach().contiguous();
    communicator.broadcast(values);
    if (!values.is_alias_of(tensor)) tensor.detach().copy_(values);
  }
}

/// Throws OptionError, on every rank, unless `text`, a description of `what`, is the same on all.
template <Communicator C>
void require_same_on_all_ranks(const C& communicator, c10::Device device, const std::string& what,
                               const std::string& text) {
  if (communicator.size() == 1) return;
  const auto mine = static_cast<std::int64_t>(crc32(text));
  const at::Tensor theirs = at::full({1}, mine, at::TensorOptions(device).dtype(at::kLong));
  communicator.broadcast(theirs);
  const at::Tensor differ = theirs.ne(mine).to(at::kLong);
  communicator.all_reduce(differ).wait();
  if (const auto ranks = differ.template item<std::int64_t>(); ranks > 0) {
    throw OptionError(
        what + " of " + std::to_string(ranks) + " of " + std::to_string(communicator.size()) +
        " ranks is not that of rank 0; on rank " + std::to_string(communicator.rank()) +
        " it is: " + text + "; give every rank the same");
  }
}

}  // namespace flowmatch::inline v0
