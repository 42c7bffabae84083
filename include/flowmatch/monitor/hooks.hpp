#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>

namespace flowmatch { inline namespace v0 {

/// What a hook may answer; a hook that returns nothing means `proceed`. `stop` ends training with a
/// checkpoint.
enum class Next { proceed, stop };

/// After an optimizer step. Counts are of what is done; what is not known is NaN or absent.
struct StepReport {
  std::int64_t step = 0;         ///< optimizer steps in the run
  std::int64_t total_steps = 0;  ///< steps that the whole run has
  std::int64_t epoch = 0;        ///< the epoch under way, from 0
  std::int64_t epochs = 0;       ///< of the run
  std::optional<double> loss{};  ///< of this step; where looking at it would hold the device up
                                 ///< (see TrainOptions::asynchronous) only each `log_every` steps
  /// Of this step; where the optimizer has several groups that of the last one, which with_groups
  /// makes of the parameters in no other.
  double learning_rate = std::numeric_limits<double>::quiet_NaN();
  std::int64_t samples = 0;                                              ///< in this step
  double seconds = 0;                                                    ///< since fit began
  double samples_per_second = std::numeric_limits<double>::quiet_NaN();  ///< over the call to fit
  std::optional<double> grad_norm{};  ///< before clipping; there when `loss` is
  std::int64_t skipped = 0;           ///< steps without an update in the run, see OnNonfinite
  std::int64_t rollbacks = 0;         ///< returns to a checkpoint in the run
};

/// After an epoch.
struct EpochReport {
  std::int64_t epoch = 0;        ///< from 0
  std::int64_t epochs = 0;       ///< of the run
  std::int64_t step = 0;         ///< steps made
  std::int64_t total_steps = 0;  ///< of the run
  /// Mean over the epoch's steps that this call to fit made; NaN where none had a finite loss.
  double loss = std::numeric_limits<double>::quiet_NaN();
  double seconds = 0;                                                    ///< since fit began
  double samples_per_second = std::numeric_limits<double>::quiet_NaN();  ///< since fit began
};

/// What `fit` did.
struct TrainResult {
  std::int64_t steps = 0;  ///< optimizer steps in the run so far
  /// Mean over the steps of the last epoch that was worked on; NaN where none had a finite loss.
  double loss = std::numeric_limits<double>::quiet_NaN();
  double seconds = 0;          ///< that this call took
  bool stopped = false;        ///< by a hook or the stop token, before the last step
  std::int64_t skipped = 0;    ///< steps of the run without an update, see OnNonfinite
  std::int64_t rollbacks = 0;  ///< returns of the run to a checkpoint
};

namespace detail {

template <class F, class... Arguments>
Next answer_of(F&& f, Arguments&... arguments) {
  using Answer = decltype(f(arguments...));
  static_assert(std::is_same_v<Answer, Next> || std::is_void_v<Answer>,
                "flowmatch: a hook returns nothing or flowmatch::Next");
  if constexpr (std::is_same_v<Answer, Next>) {
    return f(arguments...);
  } else {
    f(arguments...);
    return Next::proceed;
  }
}

/// Calls what the hook has for these arguments, a report and perhaps the trainer: a member
/// `on_step` or `on_epoch`, or the hook itself if it is a callable that takes them.
template <class Hook, class Report, class... Trainer>
Next call_hook(Hook& hook, const Report& report, Trainer&... trainer) {
  constexpr bool step = std::same_as<Report, StepReport>;
  if constexpr (step && requires { hook.on_step(report, trainer...); }) {
    return answer_of([&](auto&... a) { return hook.on_step(a...); }, report, trainer...);
  } else if constexpr (!step && requires { hook.on_epoch(report, trainer...); }) {
    return answer_of([&](auto&... a) { return hook.on_epoch(a...); }, report, trainer...);
  } else if constexpr (requires { hook(report, trainer...); }) {
    return answer_of(hook, report, trainer...);
  } else if constexpr (sizeof...(trainer) > 0) {
    return call_hook(hook, report);
  } else {
    return Next::proceed;
  }
}

/// Calls the hook's `before_checkpoint`, if it has one, and gives the score that it returns.
template <class Hook, class... Trainer>
std::optional<double> score_of_hook(Hook& hook, const EpochReport& report, Trainer&... trainer) {
  if constexpr (requires { hook.before_checkpoint(report, trainer...); }) {
    using Answer = decltype(hook.before_checkpoint(report, trainer...));
    static_assert(
        std::is_void_v<Answer> || std::convertible_to<Answer, std::optional<double>>,
        "flowmatch: a hook's before_checkpoint returns nothing, a score, or std::optional<double>");
    if constexpr (std::is_void_v<Answer>) {
      hook.before_checkpoint(report, trainer...);
      return std::nullopt;
    } else {
      return hook.before_checkpoint(report, trainer...);
    }
  } else if constexpr (sizeof...(trainer) > 0) {
    return score_of_hook(hook, report);
  } else {
    return std::nullopt;
  }
}

/// Calls all hooks; `stop` where one of them says so.
template <class Report, class Trainer, class... Hooks>
Next call_hooks(const Report& report, Trainer& trainer, Hooks&... hooks) {
  Next answer = Next::proceed;
  ((answer = call_hook(hooks, report, trainer) == Next::stop ? Next::stop : answer), ...);
  return answer;
}
/// Calls what hooks have to do before a checkpoint; the last score that one gives.
template <class Trainer, class... Hooks>
std::optional<double> score_of_hooks(const EpochReport& report, Trainer& trainer, Hooks&... hooks) {
  std::optional<double> last;
  [[maybe_unused]] const auto call = [&](auto& hook) {
    if (const auto score = score_of_hook(hook, report, trainer)) last = score;
  };
  (call(hooks), ...);
  return last;
}

template <class H, class... Trainer>
concept Hears = requires(H& hook, const StepReport& report, Trainer&... trainer) {
  hook.on_step(report, trainer...);
}
|| requires(H& hook, const EpochReport& report, Trainer&... trainer) {
  hook.on_epoch(report, trainer...);
}
|| requires(H& hook, const EpochReport& report, Trainer&... trainer) {
  hook.before_checkpoint(report, trainer...);
}
|| requires(H& hook, const StepReport& report, Trainer&... trainer) { hook(report, trainer...); }
|| requires(H& hook, const EpochReport& report, Trainer&... trainer) { hook(report, trainer...); };

}  // namespace detail

/// Something that watches training.
///
/// 1. It has some of the members `on_step(const StepReport&)`, after each optimizer step,
///    `before_checkpoint(const EpochReport&)`, after an epoch's last step and before its checkpoint
///    is written, and `on_epoch(const EpochReport&)`, after that; or it is a callable, which stands
///    for on_step, on_epoch, or both.
///
/// 2. on_step and on_epoch may return Next. before_checkpoint may return a score, the lower the
///    better, as a number or std::optional<double>: the epoch's checkpoint is written with it. Of
///    several hooks' scores the last counts.
///
/// 3. What hooks draw from LibTorch's default generators does not change training: those are put
///    back after them (after a step only for a RestartableSource, whose runs go on from any step).
///
/// 4. Each may take the trainer as a further argument (`auto& trainer`), for its `module()`,
///    `ema()` or `save()`: the concept is then `HookOf<H, Trainer>`.
template <class H>
concept Hook = detail::Hears<H>;

/// A hook of a trainer of this type: a Hook, or one that takes the trainer.
template <class H, class Trainer>
concept HookOf = Hook<H> || detail::Hears<H, Trainer>;

/// A callable that is called before an epoch's checkpoint instead of after it:
/// `BeforeCheckpoint([&](const EpochReport&) { return score(); })`.
template <class F>
class BeforeCheckpoint {
 public:
  /// Calls f(report), or f(report, trainer).
  explicit BeforeCheckpoint(F f) : f_(std::move(f)) {}

  /// Calls it with the epoch's `report` and, if it takes it, the `trainer`.
  template <class... Trainer>
  requires std::invocable<F&, const EpochReport&, Trainer&...>
  auto before_checkpoint(const EpochReport& report, Trainer&... trainer) const {
    return f_(report, trainer...);
  }

 private:
  mutable F f_;  // a hook that is const is called, too
};

}}  // namespace flowmatch
