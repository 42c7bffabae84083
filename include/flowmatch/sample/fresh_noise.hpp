#pragma once

#include <ATen/Functions.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "flowmatch/core/random.hpp"

namespace flowmatch { inline namespace v0 {

/// The fresh noise of a batch of samples: an ode::NoiseSource whose numbers depend on the Rng that
/// it is made from, on each sample's place among all, and on how many draws came before; not on
/// what else is in the batch. So samples come out the same in batches of any size, on any thread.
///
/// The noise of draw k is made in blocks of samples with a forked Rng each, on the Rng's device,
/// and a batch takes its rows of the blocks that it touches. A block has about 4,096 numbers: fewer
/// would cost more generators, more would be drawn in vain by small batches.
class FreshNoise {
 public:
  /// For samples [first, first + b) of all.
  FreshNoise(Rng rng, std::int64_t first) : rng_(std::move(rng)), first_(first) {}

  /// N(0, 1) of x's shape [b, …], dtype and device.
  at::Tensor operator()(const at::Tensor& x) {
    const std::int64_t end = first_ + x.size(0);
    const std::int64_t size = x.size(0) > 0 ? std::max<std::int64_t>(x.numel() / x.size(0), 1) : 1;
    const std::int64_t block = std::max<std::int64_t>((std::int64_t{1} << 12) / size, 1);
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape[0] = block;  // also where fewer samples are left: other shapes draw other numbers
    std::vector<at::Tensor> parts;
    for (std::int64_t i = first_ / block; i * block < end; ++i) {
      const std::int64_t begin = i * block;
      const auto index = static_cast<std::uint64_t>(draws_) << 32U | static_cast<std::uint64_t>(i);
      const at::Tensor whole =
          rng_.fork("fresh noise", index).normal(shape, x.options().requires_grad(false));
      parts.push_back(
          whole.slice(0, std::max(first_ - begin, std::int64_t{0}), std::min(end - begin, block)));
    }
    ++draws_;
    if (parts.empty()) return at::empty_like(x);
    return (parts.size() == 1 ? parts.front() : at::cat(parts)).to(x.device());
  }

 private:
  Rng rng_;
  std::int64_t first_;
  std::int64_t draws_ = 0;
};

}}  // namespace flowmatch
