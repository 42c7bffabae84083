#pragma once

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/parallel/communicator.hpp"

namespace flowmatch { inline namespace v0 {

/// Sums gradients over the ranks while the backward pass is still under way (Li et al. 2020,
/// "PyTorch Distributed", sections 3.2.2 and 3.2.3).
///
/// Parameters are gathered into buckets of about `bucket_bytes`, the last registered first, because
/// their gradients are ready first. As soon as a bucket's last gradient is there its sum begins,
/// and backward goes on beside it. With accumulation only the last backward pass of a step
/// communicates:
///
///     buckets.start();    // before the last backward pass
///     loss.backward();
///     buckets.finish();   // the gradients are now the sums over the ranks
///
/// A parameter that no rank used keeps its undefined gradient; one that only others used gets
/// theirs. A mean over the global batch is a sum of means that each rank has weighted by its part
/// of the samples. Lives no longer than the parameters' use in training: it sets their
/// post-accumulate-gradient hook. With one rank it does nothing.
///
/// Throws OptionError unless bucket_bytes > 0, for sparse gradients and for parameters that are
/// unfrozen meanwhile; CommunicationError, also out of backward().
template <Communicator C>
class GradientBuckets {
 public:
  /// Buckets of about `bucket_bytes` each.
  explicit GradientBuckets(const std::vector<at::Tensor>& parameters, C communicator = C{},
                           std::int64_t bucket_bytes = 25 << 20)
      : communicator_(std::move(communicator)) {
    if (bucket_bytes < 1) {
      throw OptionError("gradient buckets of " + std::to_string(bucket_bytes) +
                        " bytes; choose at least 1");
    }
    if (communicator_.size() == 1) return;
    std::int64_t bytes = bucket_bytes;
    for (auto p = parameters.rbegin(); p != parameters.rend(); ++p) {
      if (!p->requires_grad()) {
        frozen_.push_back(*p);
        continue;
      }
      if (bytes >= bucket_bytes || !alike(*p, buckets_.back().parameters.back())) {
        buckets_.emplace_back();
        bytes = 0;
      }
      buckets_.back().parameters.push_back(*p);
      bytes += static_cast<std::int64_t>(p->nbytes());
    }
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      std::int64_t numbers = 0;
      for (const at::Tensor& p : buckets_[i].parameters) {
        numbers += real(p).numel() + 1;
        torch::autograd::impl::set_post_acc_grad_hooks(p, std::make_unique<Hook>(*this, i));
      }
      buckets_[i].flat = at::empty({numbers}, real(buckets_[i].parameters.front()).options());
    }
  }
  ~GradientBuckets() {
    for (const Bucket& bucket : buckets_) {
      for (const at::Tensor& p : bucket.parameters)
        torch::autograd::impl::set_post_acc_grad_hooks(p, nullptr);
    }
  }
  GradientBuckets(const GradientBuckets&) = delete;
  GradientBuckets& operator=(const GradientBuckets&) = delete;

  /// From here on, gradients are sent as they come. Throws OptionError where a parameter is trained
  /// that was frozen when this was made: it has no place in a bucket.
  void start() {
    for (const at::Tensor& p : frozen_) {
      if (!p.requires_grad()) continue;
      throw OptionError(
          "a frozen parameter began to be trained, and the other ranks would not get its gradient; "
          "unfreeze it on every rank, between two calls to fit");
    }
    for (Bucket& bucket : buckets_) bucket.missing = bucket.parameters.size();
    next_ = 0;
    armed_ = true;
  }

  /// Waits for all buckets and puts the means into the gradients.
  void finish() {
    armed_ = false;
    while (next_ < buckets_.size()) send(buckets_[next_++]);  // some parameters were not used
    for (Bucket& bucket : buckets_) receive(bucket);
  }

  /// How many buckets there are.
  std::size_t size() const noexcept { return buckets_.size(); }

 private:
  using Pending = decltype(std::declval<const C&>().all_reduce(std::declval<at::Tensor>()));

  // A complex gradient goes as two real ones, which every backend can sum.
  static at::Tensor real(const at::Tensor& t) {
    return t.is_complex() ? at::view_as_real(t.detach().resolve_conj()) : t;
  }
  static bool alike(const at::Tensor& a, const at::Tensor& b) {
    return a.device() == b.device() && a.dtype() == b.dtype();
  }

  struct Bucket {
    std::vector<at::Tensor> parameters;
    at::Tensor flat;  // their gradients, each followed by how many ranks have it
    std::size_t missing = 0;
    std::optional<Pending> pending{};
  };

  // Unlike a hook on the AccumulateGrad node it survives the node, which set_data may replace.
  struct Hook final : torch::autograd::PostAccumulateGradHook {
    Hook(GradientBuckets& all, std::size_t bucket) : buckets(all), index(bucket) {}
    void operator()(const at::Tensor&) override { buckets.arrived(index); }
    GradientBuckets& buckets;
    std::size_t index;
  };

  void arrived(std::size_t index) {
    if (!armed_) return;
    --buckets_[index].missing;
    // In order, because every rank has to send the same bucket at the same time.
    while (next_ < buckets_.size() && buckets_[next_].missing == 0) send(buckets_[next_++]);
  }

  void send(Bucket& bucket) {
    const at::NoGradGuard no_grad;
    std::int64_t begin = 0;
    for (const at::Tensor& p : bucket.parameters) {
      const at::Tensor& grad = p.grad();
      const std::int64_t numbers = real(p).numel();
      const at::Tensor place = bucket.flat.narrow(0, begin, numbers + 1);
      if (!grad.defined()) {
        place.zero_();
      } else if (grad.is_sparse()) {
        throw OptionError(
            "sparse gradients cannot be summed over ranks; make the embedding with sparse(false)");
      } else {
        place.narrow(0, 0, numbers).view(real(p).sizes()).copy_(real(grad));
        place[numbers].fill_(1);
      }
      begin += numbers + 1;
    }
    bucket.pending.emplace(communicator_.all_reduce(bucket.flat));
  }

  void receive(Bucket& bucket) {
    const at::NoGradGuard no_grad;
    bucket.pending->wait();
    bucket.pending.reset();
    std::int64_t begin = 0;
    for (const at::Tensor& p : bucket.parameters) {
      const std::int64_t numbers = real(p).numel();
      const at::Tensor place = bucket.flat.narrow(0, begin, numbers + 1);
      begin += numbers + 1;
      if (!p.grad().defined()) {
        if (place[numbers].template item<double>() == 0) continue;
        p.mutable_grad() = at::empty_like(p);
      }
      const at::Tensor sum = place.narrow(0, 0, numbers).view(real(p).sizes());
      p.mutable_grad().copy_(p.is_complex() ? at::complex(sum.select(-1, 0), sum.select(-1, 1))
                                            : sum);
    }
  }

  C communicator_;
  std::vector<Bucket> buckets_{};
  std::vector<at::Tensor> frozen_{};
  std::size_t next_ = 0;
  bool armed_ = false;
};

}}  // namespace flowmatch
