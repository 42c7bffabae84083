#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cstdint>
#include <string>
#include <utility>

#include "flowmatch/core/error.hpp"

namespace flowmatch { inline namespace v0 {

/// What training does about a step whose loss or gradient is NaN or infinite. That step changes no
/// weight, but for `stop` on a GPU with an optimizer that cannot mask it.
enum class OnNonfinite {
  stop,       ///< throws TrainingError naming the step
  skip,       ///< goes on with the next batch; `most_skips` of them in a row stop training
  roll_back,  ///< goes back to the newest checkpoint and on from there with other times and noise;
              ///< a fault after `most_rollbacks` to the same one stops training
};

/// Steps in a row that `OnNonfinite::skip` leaves out.
inline constexpr std::int64_t most_skips = 50;
/// Returns to one checkpoint that `OnNonfinite::roll_back` makes.
inline constexpr std::int64_t most_rollbacks = 3;

/// Judges steps by whether their loss and gradient were finite, and says what to do.
///
/// On the CPU each step is judged at once. On other devices (`TrainOptions::asynchronous`) looking
/// would hold the program up at each step: there the optimizer masks bad updates itself (StepMask),
/// and a flag on the device remembers them until `read_flag`.
class NonfiniteWatch {
 public:
  /// What follows for the step.
  enum class Verdict { good, skip, roll_back };

  /// By this `policy`.
  explicit NonfiniteWatch(OnNonfinite policy) : policy_(policy) {}

  /// A step of which everything is known: whether its loss and gradient were finite (`finite_loss`,
  /// `finite_gradient`). `curable`: its gradient is for the loss scaler to bring
  /// down, and no fault. Throws TrainingError where training has to stop.
  Verdict judge(std::int64_t step, bool finite_loss, bool finite_gradient, bool curable = false) {
    gave_up_ = false;
    if (finite_loss && finite_gradient) {
      skips_in_a_row_ = 0;
      return Verdict::good;
    }
    if (finite_loss && curable) {
      ++skipped_;
      return Verdict::skip;
    }
    ++skips_in_a_row_;
    return answer(step, 1, skips_in_a_row_, finite_loss ? "gradient" : "loss");
  }

  /// A step that nobody waits for. `bad`: it was masked; `fault`: and not for the loss scaler. Bool
  /// scalars on the device.
  void note(std::int64_t step, const at::Tensor& bad, const at::Tensor& fault) {
    if (!first_fault_.defined()) {
      first_fault_ = at::full({}, -1, bad.options().dtype(at::kLong));
      too_many_ = first_fault_.clone();
      bad_steps_ = at::zeros_like(first_fault_);
      in_a_row_ = at::zeros_like(first_fault_);
    }
    const at::Tensor now = at::full_like(first_fault_, step);
    first_fault_ = at::where(fault.logical_and(first_fault_ < 0), now, first_fault_);
    bad_steps_ += bad;
    gave_up_ = false;
    in_a_row_ = at::where(bad, in_a_row_ + fault, at::zeros_like(in_a_row_));
    too_many_ = at::where((in_a_row_ >= most_skips).logical_and(too_many_ < 0), now, too_many_);
    noted_ = true;
  }

  /// Whether something has been noted since the last look.
  bool noted() const noexcept { return noted_; }
  /// Whether what was judged last made it throw.
  bool gave_up() const noexcept { return gave_up_; }

  /// Judges what has been noted since the last look. Waits for the device. Throws TrainingError.
  Verdict read_flag() {
    if (!std::exchange(noted_, false)) return Verdict::good;
    const auto first = first_fault_.item<std::int64_t>();
    const auto too_many = too_many_.item<std::int64_t>();
    const auto count = bad_steps_.item<std::int64_t>();
    first_fault_.fill_(-1);
    too_many_.fill_(-1);
    bad_steps_.zero_();
    const bool skipped_too_many = policy_ == OnNonfinite::skip && too_many >= 0;
    if (first >= 0) {
      return answer(skipped_too_many ? too_many : first, count, skipped_too_many ? most_skips : 0,
                    "loss or gradient");
    }
    skipped_ += count;
    return Verdict::good;
  }

  /// A new checkpoint has been written: rolling back makes sense again.
  void progressed() noexcept { rollbacks_in_a_row_ = 0; }

  /// Steps without an update in the run so far, those for the loss scaler among them.
  std::int64_t skipped() const noexcept { return skipped_; }
  /// To the `count` of a run that is resumed.
  void set_skipped(std::int64_t count) noexcept { skipped_ = count; }

 private:
  Verdict answer(std::int64_t step, std::int64_t count, std::int64_t in_a_row, const char* what) {
    std::string found = text_of("the ", what, " became NaN or infinite at step ", step);
    bool give_up = policy_ == OnNonfinite::stop;
    if (policy_ == OnNonfinite::skip) {
      skipped_ += count;
      give_up = in_a_row >= most_skips;
      found += text_of(", the last of ", in_a_row, " steps in a row that were skipped");
    } else if (policy_ == OnNonfinite::roll_back) {
      give_up = ++rollbacks_in_a_row_ > most_rollbacks;
      found += text_of(", also after going back ", most_rollbacks, " times");
    }
    gave_up_ = give_up;
    if (give_up) {
      throw TrainingError(found +
                              "; lower the learning rate, clip gradients (clip_norm), or look for "
                              "NaN in the data",
                          step);
    }
    return policy_ == OnNonfinite::skip ? Verdict::skip : Verdict::roll_back;
  }

  OnNonfinite policy_;
  std::int64_t skipped_ = 0;
  std::int64_t skips_in_a_row_ = 0;
  std::int64_t rollbacks_in_a_row_ = 0;
  bool gave_up_ = false;
  // On the device, since the last look:
  at::Tensor first_fault_{};  // its step, or -1
  at::Tensor too_many_{};     // the step with which faults in a row became too many, or -1
  at::Tensor bad_steps_{};    // how many
  at::Tensor in_a_row_{};     // faults up to the last step, looks or no looks
  bool noted_ = false;
};

}}  // namespace flowmatch
