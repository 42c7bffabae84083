#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace support {

/// Moments of a process whose number nobody knows beforehand. Once there are more than `most`,
/// every second one goes, so memory stays bounded and what is kept stays evenly spaced.
class Filmstrip {
 public:
  explicit Filmstrip(std::size_t most = 256) : most_(std::max<std::size_t>(most, 2)) {}

  void add(at::Tensor moment) {
    last_ = std::move(moment);
    last_is_kept_ = seen_++ % stride_ == 0;
    if (!last_is_kept_) return;
    kept_.push_back(last_);
    if (kept_.size() <= most_) return;
    last_is_kept_ = kept_.size() % 2 == 1;
    for (std::size_t i = 1; 2 * i < kept_.size(); ++i) kept_[i] = kept_[2 * i];
    kept_.resize((kept_.size() + 1) / 2);
    stride_ *= 2;
  }

  /// Of those that are kept; the last one always is.
  std::size_t size() const { return kept_.size() + (last_is_kept_ ? 0 : 1); }

  /// n moments, evenly spaced, from the first to the last; where fewer are kept, some repeat. None
  /// of an empty strip.
  std::vector<at::Tensor> evenly(std::size_t n) const {
    std::vector<at::Tensor> moments;
    if (seen_ == 0) return moments;
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t at = n > 1 ? i * (size() - 1) / (n - 1) : size() - 1;
      moments.push_back(at < kept_.size() ? kept_[at] : last_);
    }
    return moments;
  }

 private:
  std::size_t most_;
  std::vector<at::Tensor> kept_;
  at::Tensor last_;
  bool last_is_kept_ = true;
  std::size_t seen_ = 0;
  std::size_t stride_ = 1;
};

}  // namespace support
