#pragma once

#include <cstdint>
#include <optional>
#include <type_traits>

namespace flowmatch { inline namespace v0 {

/// What a hook may answer; a hook that returns nothing means `proceed`. `stop` ends training with a
/// checkpoint.
enum class Next { proceed, stop };

/// After an optimizer step. Counts are of what is done.
struct StepReport {
  std::int64_t step = 0;         ///< optimizer steps in the run
  std::int64_t total_steps = 0;  ///< steps that the whole run has
  std::int64_t epoch = 0;        ///< the epoch under way, from 0
  std::int64_t epochs = 0;       ///< of the run
  std::optional<double>
      loss{};  ///< of this step; on devices other than the CPU only each `log_every` steps
  double learning_rate = 0;           ///< of this step
  std::int64_t samples = 0;           ///< in this step
  double seconds = 0;                 ///< since fit began
  double samples_per_second = 0;      ///< over the call to fit
  std::optional<double> grad_norm{};  ///< before clipping; there when `loss` is
  std::int64_t skipped = 0;           ///< steps without an update in the run, see OnNonfinite
  std::int64_t rollbacks = 0;         ///< returns to a checkpoint in the run
};

/// After an epoch.
struct EpochReport {
  std::int64_t epoch = 0;         ///< from 0
  std::int64_t epochs = 0;        ///< of the run
  std::int64_t step = 0;          ///< steps made
  std::int64_t total_steps = 0;   ///< of the run
  double loss = 0;                ///< mean over the epoch's steps that this call to fit made
  double seconds = 0;             ///< since fit began
  double samples_per_second = 0;  ///< since fit began
};

/// What `fit` did.
struct TrainResult {
  std::int64_t steps = 0;      ///< optimizer steps in the run so far
  double loss = 0;             ///< mean over the steps of the last epoch that was worked on
  double seconds = 0;          ///< that this call took
  bool stopped = false;        ///< by a hook or the stop token, before the last step
  std::int64_t skipped = 0;    ///< steps of the run without an update, see OnNonfinite
  std::int64_t rollbacks = 0;  ///< returns of the run to a checkpoint
};

namespace detail {

template <class Report, class F>
Next answer_of(F&& f, const Report& report) {
  using Answer = decltype(f(report));
  static_assert(std::is_same_v<Answer, Next> || std::is_void_v<Answer>,
                "flowmatch: a hook returns nothing or flowmatch::Next");
  if constexpr (std::is_same_v<Answer, Next>) {
    return f(report);
  } else {
    f(report);
    return Next::proceed;
  }
}

/// Calls what the hook has for this report: `on_step`/`on_epoch` members, or the hook itself if it
/// is a callable that takes the report's type.
template <class Hook>
Next call_hook(Hook& hook, const StepReport& report) {
  if constexpr (requires { hook.on_step(report); }) {
    return answer_of([&](const StepReport& r) { return hook.on_step(r); }, report);
  } else if constexpr (requires { hook(report); }) {
    return answer_of([&](const StepReport& r) { return hook(r); }, report);
  } else {
    return Next::proceed;
  }
}
template <class Hook>
Next call_hook(Hook& hook, const EpochReport& report) {
  if constexpr (requires { hook.on_epoch(report); }) {
    return answer_of([&](const EpochReport& r) { return hook.on_epoch(r); }, report);
  } else if constexpr (requires { hook(report); }) {
    return answer_of([&](const EpochReport& r) { return hook(r); }, report);
  } else {
    return Next::proceed;
  }
}

}  // namespace detail

/// Something that watches training.
///
/// 1. It has `on_step(const StepReport&)`, `on_epoch(const EpochReport&)`, or both; or it is a
///    callable for one or both reports.
///
/// 2. Each may return Next.
template <class H>
concept Hook = requires(H& hook, const StepReport& report) {
  hook.on_step(report);
}
|| requires(H& hook, const EpochReport& report) { hook.on_epoch(report); }
|| requires(H& hook, const StepReport& report) { hook(report); }
|| requires(H& hook, const EpochReport& report) { hook(report); };

}}  // namespace flowmatch
