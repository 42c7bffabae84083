#pragma once

#include <ATen/core/Tensor.h>

#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/data/batch_source.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

// A data loader, or a pointer to one.
template <class Loader>
auto& loader_range(Loader& loader) {
  if constexpr (requires { loader.begin(); }) {
    return loader;
  } else {
    return *loader;
  }
}

template <class Example>
struct loader_condition {
  using type = NoCondition;
};
template <class Example>
requires requires(Example& example) { example.target; }
struct loader_condition<Example> {
  using type = std::remove_cvref_t<decltype(std::declval<Example&>().target)>;
};

}  // namespace detail

/// A data loader of LibTorch as a BatchSource: `LoaderBatches(loader, batches_per_epoch)`, for a
/// torch::data data loader, a pointer to one as `make_data_loader` gives it, or any range of
/// batches that have a tensor `.data` [B, …] (x_1) and perhaps a `.target` (the condition: any type
/// with `condition_traits`, as a rule a tensor [B]). The dataset has to stack its samples:
/// `.map(torch::data::transforms::Stack<>())`.
///
/// An rvalue is kept; an lvalue is kept by address and has to outlive this.
///
/// Not restartable: the order is the loader's own affair, so training resumes from the end of an
/// epoch only (TensorBatches resumes anywhere). LibTorch's random samplers draw from the default
/// generator, which checkpoints keep: `at::manual_seed` before the loader is made fixes the order,
/// and a loader made before `Trainer::resume` goes on in it. Starting an epoch in the midst of
/// another one reads the rest of that one first, because LibTorch's loaders allow no new epoch
/// before.
///
/// `batches_per_epoch` is what schedules count on. Throws OptionError where it is below 1 or the
/// pointer is null, DataError where the loader gives more or fewer batches.
template <class Loader>
class LoaderBatches {
  using Range = std::remove_reference_t<decltype(detail::loader_range(
      std::declval<std::remove_reference_t<Loader>&>()))>;
  using Iterator = decltype(std::declval<Range&>().begin());
  using Example = std::remove_reference_t<decltype(*std::declval<Iterator&>())>;
  static_assert(
      requires(Example & example) {
        { example.data } -> std::convertible_to<at::Tensor>;
      },
      "flowmatch: a loader's batches need a tensor `.data` and perhaps a `.target`; add "
      ".map(torch::data::transforms::Stack<>()) to the dataset");

 public:
  /// The condition that its batches have.
  using condition_type = typename detail::loader_condition<Example>::type;

  /// The loader and how many batches it gives.
  LoaderBatches(Loader&& loader, std::int64_t batches_per_epoch)
      : loader_(std::forward<Loader>(loader)), batches_(batches_per_epoch) {
    if (batches_per_epoch < 1) {
      throw OptionError("a data loader with " + std::to_string(batches_per_epoch) +
                        " batches an epoch; give the number that it yields, at least 1");
    }
    if constexpr (requires { loader_ == nullptr; }) {
      if (loader_ == nullptr) throw OptionError("the data loader is null; make it first");
    }
  }

  /// As it was given.
  std::int64_t batches_per_epoch() const noexcept { return batches_; }

  /// The number is not used: each epoch is the loader's next one.
  void start_epoch(std::int64_t) {
    if (position_ && given_ == batches_) next();  // throws where the loader is not at its end
    while (position_ && advance()) {
    }
    position_ = std::make_unique<Iterator>(range().begin());
    given_ = 0;
    fresh_ = true;
  }

  /// The next batch of the epoch; none at its end.
  std::optional<Batch<condition_type>> next() {
    if (!position_) return std::nullopt;
    const bool more = advance();
    if (more != (given_ < batches_)) {
      throw DataError("the data loader gave " +
                      (more ? "more than " + std::to_string(batches_) : std::to_string(given_)) +
                      " batches in an epoch that should have " + std::to_string(batches_) +
                      "; give LoaderBatches the number that the loader yields");
    }
    if (!more) return std::nullopt;
    ++given_;
    auto&& example = **position_;
    if constexpr (std::same_as<condition_type, NoCondition>) {
      return Batch<condition_type>{example.data};
    } else {
      return Batch<condition_type>{example.data, example.target};
    }
  }

 private:
  Range& range() { return detail::loader_range(loader_); }

  // Moves to the next batch, to the first one at first. At the end it lets go of the iterator.
  bool advance() {
    if (!std::exchange(fresh_, false)) ++*position_;
    if (*position_ != range().end()) return true;
    position_.reset();
    return false;
  }

  Loader loader_;
  std::int64_t batches_;
  std::unique_ptr<Iterator> position_;  // null outside an epoch
  std::int64_t given_ = 0;
  bool fresh_ = false;
};

template <class L>
LoaderBatches(L&&, std::int64_t) -> LoaderBatches<L>;

}}  // namespace flowmatch
