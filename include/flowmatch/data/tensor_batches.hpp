#pragma once

#include <ATen/Functions.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/data/batch_source.hpp"
#include "flowmatch/io/crc32.hpp"

namespace flowmatch { inline namespace v0 {

/// What becomes of an epoch's last, smaller batch.
enum class LastBatch {
  merge_single,  ///< kept, but a last batch of one sample joins the one before (BatchNorm cannot
                 ///< train on one)
  keep,          ///< kept
  drop,          ///< left out
};

/// Order and size of the batches.
struct TensorBatchesOptions {
  bool shuffle = true;     ///< a new order each epoch, from the seed and the epoch's number
  std::uint64_t seed = 0;  ///< of the orders
  LastBatch last_batch = LastBatch::merge_single;  ///< see LastBatch
  /// Each sample's own start [N, …], for PairedSource: pairs of two kinds of data, or of a trained
  /// model (reflow). Undefined: none.
  at::Tensor x_0{};
};

/// Data that lies in memory: x_1 [N, …] and one condition a sample. A batch costs one index_select.
///
/// `TensorBatches(images, labels, 512)` or `TensorBatches(points, 256)`. Batches lie where the data
/// lies, and carry no gradients to what the data came from. Throws ShapeError where the condition's
/// size is not N or x_0 not of x_1's shape, OptionError for a batch size below 1, DataError for no
/// data.
template <Condition C = NoCondition>
class TensorBatches {
 public:
  /// The condition that its batches have.
  using condition_type = C;

  /// Data x_1 [N, …] with one condition a sample, `batch_size` samples at a time.
  TensorBatches(at::Tensor x_1, C condition, std::int64_t batch_size,
                TensorBatchesOptions options = {})
      : x_1_(std::move(x_1)),
        condition_(std::move(condition)),
        batch_size_(batch_size),
        options_(std::move(options)) {
    if (!x_1_.defined() || x_1_.dim() == 0 || x_1_.size(0) == 0) {
      throw DataError("there is no data to train on: x_1 has shape " + shape_text(x_1_) +
                      "; give it [N, …] with N > 0");
    }
    if (batch_size < 1) {
      throw OptionError("a batch size of " + std::to_string(batch_size) + "; choose at least 1");
    }
    check_condition_size(condition_, x_1_.size(0));
    x_1_ = x_1_.detach();
    condition_ = detached(std::move(condition_));
    if (options_.x_0.defined()) {
      check_same_shape(options_.x_0, "x_0", x_1_, "x_1");
      options_.x_0 = options_.x_0.detach();
    }
    const std::int64_t n = x_1_.size(0);
    const std::int64_t rest = n % batch_size_;
    batches_ = n / batch_size_ + (rest > 0 ? 1 : 0);
    const bool leave_out = options_.last_batch == LastBatch::drop ? rest > 0
                           : options_.last_batch == LastBatch::merge_single
                               ? rest == 1 && batch_size_ > 1
                               : false;
    if (leave_out && batches_ > 1) --batches_;
    if (options_.last_batch == LastBatch::drop && n < batch_size_) {
      throw OptionError("a batch size of " + std::to_string(batch_size_) + " for " +
                        std::to_string(n) +
                        " samples with LastBatch::drop leaves no batch; choose a smaller one");
    }
    next_ = batches_;  // nothing before start_epoch
  }

  /// Data x_1 [N, …] without conditions, `batch_size` samples at a time.
  TensorBatches(at::Tensor x_1, std::int64_t batch_size,
                TensorBatchesOptions options = {}) requires std::same_as<C, NoCondition>
      : TensorBatches(std::move(x_1), NoCondition{}, batch_size, std::move(options)) {}

  /// With the last one, where the options keep it.
  std::int64_t batches_per_epoch() const noexcept { return batches_; }

  /// Begins an epoch at a batch, counted from 0. Throws OptionError where it has no such batch.
  void start_epoch(std::int64_t epoch, std::int64_t batch = 0) {
    if (batch < 0 || batch > batches_) {
      throw OptionError("batch " + std::to_string(batch) + " of an epoch of " +
                        std::to_string(batches_) + "; start at one of them");
    }
    next_ = batch;
    if (!options_.shuffle) return;
    order_ = Rng(options_.seed)
                 .fork("data order", static_cast<std::uint64_t>(epoch))
                 .permutation(x_1_.size(0));
    order_ = to_device(order_, x_1_.device());
  }

  /// The next batch of the epoch; none at its end.
  std::optional<Batch<C>> next() {
    if (next_ >= batches_) return std::nullopt;
    const std::int64_t n = x_1_.size(0);
    const std::int64_t begin = next_ * batch_size_;
    const bool merged = next_ + 1 == batches_ && options_.last_batch == LastBatch::merge_single;
    const std::int64_t end = merged ? n : std::min(begin + batch_size_, n);
    ++next_;
    const at::Tensor index = options_.shuffle
                                 ? order_.slice(0, begin, end)
                                 : at::arange(begin, end, x_1_.options().dtype(at::kLong));
    return Batch<C>{x_1_.index_select(0, index),
                    condition_traits<C>::index_select(condition_, index),
                    options_.x_0.defined() ? options_.x_0.index_select(0, index) : at::Tensor()};
  }

  /// Shape, dtype, batch size, order, and a CRC-32 of (some hundred evenly spaced samples of) the
  /// data and of its condition, where that is a tensor or a tuple of tensors.
  std::string fingerprint() const {
    const std::int64_t n = x_1_.size(0);
    const at::Tensor some =
        at::arange(0, n, std::max<std::int64_t>(1, n / 64), x_1_.options().dtype(at::kLong));
    return "x_1 " + shape_text(x_1_) + checksum(x_1_.index_select(0, some)) + ", condition" +
           checksum(condition_traits<C>::index_select(condition_, some)) +
           (options_.x_0.defined() ? ", x_0" + checksum(options_.x_0.index_select(0, some)) : "") +
           ", batch " + std::to_string(batch_size_) + ", " +
           (options_.shuffle ? "shuffled by seed " + std::to_string(options_.seed)
                             : std::string("in order")) +
           ", last batch " + std::to_string(static_cast<int>(options_.last_batch));
  }

 private:
  static at::Tensor detached(const at::Tensor& part) { return part.detach(); }
  template <class... Parts>
  static std::tuple<Parts...> detached(const std::tuple<Parts...>& parts) {
    return std::apply([](const auto&... p) { return std::tuple<Parts...>(detached(p)...); }, parts);
  }
  template <class Other>
  static Other detached(Other other) {
    return other;
  }

  static std::string checksum(const at::Tensor& samples) {
    const at::Tensor bytes = samples.cpu().resolve_conj().resolve_neg().contiguous();
    const auto* data = static_cast<const std::byte*>(bytes.const_data_ptr());
    return " " + std::string(toString(bytes.scalar_type())) + " crc " +
           std::to_string(crc32({data, static_cast<std::size_t>(bytes.nbytes())}));
  }
  template <class... Parts>
  static std::string checksum(const std::tuple<Parts...>& parts) {
    return std::apply([](const auto&... p) { return (std::string() + ... + checksum(p)); }, parts);
  }
  template <class Other>
  static std::string checksum(const Other&) {
    return " not looked at";
  }

  at::Tensor x_1_;
  C condition_;
  std::int64_t batch_size_;
  TensorBatchesOptions options_;
  std::int64_t batches_ = 0;
  std::int64_t next_ = 0;
  at::Tensor order_;
};

TensorBatches(at::Tensor, std::int64_t)->TensorBatches<NoCondition>;
TensorBatches(at::Tensor, std::int64_t, TensorBatchesOptions)->TensorBatches<NoCondition>;
template <class C>
TensorBatches(at::Tensor, C, std::int64_t) -> TensorBatches<C>;
template <class C>
TensorBatches(at::Tensor, C, std::int64_t, TensorBatchesOptions) -> TensorBatches<C>;

}}  // namespace flowmatch
