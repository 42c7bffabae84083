#pragma once

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <exception>
#include <map>
#include <string>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/io/crc32.hpp"
#include "flowmatch/model/state_dict.hpp"
#include "flowmatch/optim/ema.hpp"
#include "flowmatch/parallel/communicator.hpp"

// How ranks come to the same weights and the same decisions. Alone they cost nothing.

namespace flowmatch { inline namespace v0 {

/// Gives these tensors, a module's parameters or buffers, the values that they have on rank 0.
/// Strides stay.
template <Communicator C>
void broadcast_all(const C& communicator, const std::vector<at::Tensor>& tensors) {
  if (communicator.size() == 1) return;
  const at::NoGradGuard no_grad;
  for (const at::Tensor& tensor : tensors) {
    const at::Tensor place = without_repetitions(tensor.detach());
    const at::Tensor values = place.contiguous().resolve_conj();
    if (values.numel() == 0) continue;
    // As bytes, since no backend knows every dtype.
    communicator.broadcast(values.as_strided({values.numel()}, {1}).view(at::kByte));
    if (!values.is_alias_of(place)) place.copy_(values);
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

/// Does f, in which no rank may talk to others, on each rank. Where it throws on some, all ranks
/// throw, so that none waits for those: they their own error, the others a CommunicationError that
/// quotes the first.
template <Communicator C, class F>
void all_or_none(const C& communicator, c10::Device device, const F& f) {
  if (communicator.size() == 1) return f();
  std::exception_ptr thrown;
  std::string text;
  try {
    f();
  } catch (const std::exception& error) {
    thrown = std::current_exception();
    text = error.what();
  } catch (...) {
    thrown = std::current_exception();
  }
  const at::TensorOptions numbers = at::TensorOptions(device).dtype(at::kLong);
  const at::Tensor failed = at::zeros({communicator.size()}, numbers);
  if (thrown) failed[communicator.rank()].fill_(1);
  communicator.all_reduce(failed).wait();
  if (failed.sum().template item<std::int64_t>() == 0) return;
  const auto first = failed.argmax().template item<std::int64_t>();
  text.resize(1000);
  const std::vector<std::int64_t> letters(text.begin(), text.end());
  at::Tensor quote = at::tensor(letters, at::kLong).to(device) * (first == communicator.rank());
  communicator.all_reduce(quote).wait();
  if (thrown) std::rethrow_exception(thrown);
  quote = quote.cpu();
  for (std::size_t i = 0; i < text.size(); ++i)
    text[i] = static_cast<char>(quote.template const_data_ptr<std::int64_t>()[i]);
  throw CommunicationError("rank " + std::to_string(first) + " cannot begin: " + text.c_str());
}

/// Whether any rank says so.
template <Communicator C>
bool any_rank(const C& communicator, c10::Device device, bool mine) {
  if (communicator.size() == 1) return mine;
  const at::Tensor count = at::full({1}, mine ? 1 : 0, at::TensorOptions(device).dtype(at::kLong));
  communicator.all_reduce(count).wait();
  return count.template item<std::int64_t>() > 0;
}

/// The sum of the ranks' losses, scalars without gradients; undefined counts as 0.
template <Communicator C>
at::Tensor sum_over_ranks(const C& communicator, c10::Device device, const at::Tensor& mine) {
  if (communicator.size() == 1) return mine;
  const at::Tensor sum = at::zeros({}, at::TensorOptions(device).dtype(at::kDouble));
  if (mine.defined()) sum.copy_(mine);
  communicator.all_reduce(sum).wait();
  return sum;
}

/// Before ranks train together: throws OptionError unless `facts` (what -> its description) and the
/// weights' names, dtypes and shapes, and which are frozen, are the same on all, then gives every
/// rank the weights, buffers and averages of rank 0.
template <Communicator C>
void begin_together(const C& communicator, torch::nn::Module& module, Ema* ema,
                    const std::map<std::string, std::string>& facts) {
  if (communicator.size() == 1) return;
  std::vector<at::Tensor> tensors;
  std::string network;
  for (const auto& entry : state_dict(module)) {
    tensors.push_back(entry.value());
    network += "\n  " + entry.key() + " " + toString(entry.value().scalar_type()) + " " +
               shape_text(entry.value());
  }
  for (const auto& entry : module.named_parameters()) {
    if (!entry.value().requires_grad()) network += "\n  frozen: " + entry.key();
  }
  const c10::Device device = tensors.front().device();
  for (const auto& [what, text] : facts)
    require_same_on_all_ranks(communicator, device, what, text);
  require_same_on_all_ranks(communicator, device, "the network", network);
  if (ema != nullptr) {
    for (const auto& entry : ema->state()) tensors.push_back(entry.value());
  }
  broadcast_all(communicator, tensors);
}

}}  // namespace flowmatch
