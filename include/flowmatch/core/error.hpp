#pragma once

#include <charconv>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
// clang-format off
#error "flowmatch cannot be compiled with -ffast-math, -Ofast or -ffinite-math-only: the compiler would drop the checks for NaN and infinity, and reorder sums. Leave the flag out; -O3 and -march are fine."
// clang-format on
#endif

namespace flowmatch { inline namespace v0 {

/// A number as people write it in messages: 1e-05, 0.25, 100000, nan.
inline std::string number_text(double value) {
  const double size = value < 0 ? -value : value;
  const bool is_plain = value == 0 || (size >= 1e-4 && size < 1e16);
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value,
                              is_plain ? std::chars_format::fixed : std::chars_format::scientific)
                    .ptr};
}

/// The `parts`, texts and numbers, one after the other.
template <class... Parts>
std::string text_of(const Parts&... parts) {
  std::string text;
  const auto add = [&]<class Part>(const Part& part) {
    if constexpr (std::is_floating_point_v<Part>) {
      text += number_text(part);
    } else if constexpr (std::is_integral_v<Part>) {
      text += std::to_string(part);
    } else {
      text += part;
    }
  };
  (add(parts), ...);
  return text;
}

/// The base of everything that flowmatch throws itself. Every message says what was found and what
/// to do about it.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A tensor whose shape, dtype or device does not fit.
class ShapeError : public Error {
 public:
  using Error::Error;
};

/// An option outside its range, or options that exclude each other.
class OptionError : public Error {
 public:
  using Error::Error;
};

/// Data that is missing, damaged or inconsistent.
class DataError : public Error {
 public:
  using Error::Error;
};

/// A checkpoint that is missing, damaged or does not belong to this run.
class CheckpointError : public Error {
 public:
  using Error::Error;
};

/// Training that cannot go on: the loss became NaN or infinite. Carries the optimizer step, counted
/// from 0.
class TrainingError : public Error {
 public:
  /// `step`: the optimizer step, counted from 0.
  TrainingError(const std::string& message, std::int64_t step) : Error(message), step_(step) {}

  /// The optimizer step, counted from 0.
  std::int64_t step() const noexcept { return step_; }

 private:
  std::int64_t step_;
};

/// Processes that train together and lost one another, or never met: one of them ended, or does not
/// answer in time.
class CommunicationError : public Error {
 public:
  using Error::Error;
};

/// A device whose memory does not do for what was asked of it.
class MemoryError : public Error {
 public:
  using Error::Error;
};

/// An integration that cannot go on: NaN or Inf from the model, a step that underflows, too many
/// steps.
class SolverError : public Error {
 public:
  /// `t`, `step_size` and `evaluations` are what the functions of these names tell.
  SolverError(const std::string& message, double t, double step_size, std::int64_t evaluations)
      : Error(message), t_(t), step_size_(step_size), evaluations_(evaluations) {}

  /// Time that the solution had reached.
  double t() const noexcept { return t_; }
  /// Size of the step that failed.
  double step_size() const noexcept { return step_size_; }
  /// Model evaluations until then.
  std::int64_t evaluations() const noexcept { return evaluations_; }

 private:
  double t_;
  double step_size_;
  std::int64_t evaluations_;
};

}}  // namespace flowmatch
