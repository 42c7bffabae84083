#pragma once

#include <ATen/core/Tensor.h>

#include <concepts>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "flowmatch/data/batch_source.hpp"

namespace flowmatch { inline namespace v0 {

/// A source whose x_1 goes through a function, batch by batch: bytes to numbers, file names to
/// images. `Transformed(TensorBatches(bytes, labels, 512), [](const at::Tensor& x) { return
/// x.to(at::kFloat) / 127.5 - 1; })` keeps a quarter of the memory that float32 data would take.
///
/// f takes x_1 [B, …] and gives a tensor of B samples; it has to be a function of its argument
/// alone, so that the source stays restartable. Condition, order and place to start at are the
/// source's. `name` stands for f in the fingerprint: change it with f, so that a run does not
/// resume on other data. The source is kept (move it in).
template <BatchSource Source, class F>
requires std::convertible_to<std::invoke_result_t<F&, const at::Tensor&>, at::Tensor>
class Transformed {
 public:
  /// The condition that its batches have.
  using condition_type = typename Source::condition_type;

  /// Applies f to the data of each batch. `name` goes into the fingerprint: change it with f.
  explicit Transformed(Source source, F f, std::string name = "transformed")
      : source_(std::move(source)), f_(std::move(f)), name_(std::move(name)) {}

  /// The source's.
  std::int64_t batches_per_epoch() { return source_.batches_per_epoch(); }

  /// Begins an epoch.
  void start_epoch(std::int64_t epoch) { source_.start_epoch(epoch); }
  /// Begins an epoch at batch `batch`.
  void start_epoch(std::int64_t epoch, std::int64_t batch) requires RestartableSource<Source> {
    source_.start_epoch(epoch, batch);
  }

  /// The next batch of the epoch, through f; none at its end.
  std::optional<Batch<condition_type>> next() {
    std::optional<Batch<condition_type>> batch = source_.next();
    if (batch) batch->x_1 = std::invoke(f_, std::as_const(batch->x_1));
    return batch;
  }

  /// The source's, with the name.
  std::string fingerprint() const requires RestartableSource<Source> {
    return source_.fingerprint() + ", " + name_;
  }

 private:
  Source source_;
  F f_;
  std::string name_;
};

}}  // namespace flowmatch
