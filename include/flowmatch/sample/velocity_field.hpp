#pragma once

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/parallel_for.hpp"
#include "flowmatch/core/slice.hpp"
#include "flowmatch/model/side_by_side.hpp"
#include "flowmatch/model/velocity_model.hpp"
#include "flowmatch/solve/tensor_state.hpp"

namespace flowmatch { inline namespace v0 { namespace detail {

/// A model as a solver's right-hand side (x, t) -> v: the model gets x in the dtype `asked` and t
/// as a tensor [b]. Keeps the addresses of the model and the condition. Throws OptionError where
/// the model writes into x, which is the solver's.
template <class Model, Condition C>
class VelocityField {
 public:
  VelocityField(Model& model, const C& condition, at::ScalarType asked)
      : model_(model), condition_(condition), asked_(asked) {}

  at::Tensor operator()(const at::Tensor& x, double t) {
    return asked(
        x, t, [&](const at::Tensor& seen) { return call_model(model_, seen, time_, condition_); });
  }

  /// Velocity and score of a model that has both, a FlowAndScore.
  auto velocity_and_score(const at::Tensor& x, double t) requires requires(const at::Tensor& y) {
    pointee(std::declval<Model&>()).velocity_and_score(y, y, std::declval<const C&>());
  }
  {
    return asked(x, t, [&](const at::Tensor& seen) {
      return pointee(model_).velocity_and_score(seen, time_, condition_);
    });
  }

  /// The average velocity from t to r of a model that has it, a FlowMap.
  at::Tensor over(const at::Tensor& x, double t, double r) requires requires(const at::Tensor& y) {
    pointee(std::declval<Model&>()).over(y, y, y, std::declval<const C&>());
  }
  {
    const at::Tensor seen = x.to(asked_);
    const auto time = x.options().dtype(time_dtype(seen));
    return pointee(model_).over(seen, at::full({x.size(0)}, t, time),
                                at::full({x.size(0)}, r, time), condition_);
  }

 private:
  // What `answer` gives for x as the model is to see it, with time_ at t.
  template <class Answer>
  auto asked(const at::Tensor& x, double t, const Answer& answer) {
    const at::Tensor seen = x.to(asked_);
    // A new one where the model has kept the last.
    if (!ode::detail::exclusive(time_))
      time_ = at::empty({x.size(0)}, x.options().dtype(time_dtype(seen)));
    time_.fill_(t);
    const std::uint32_t version = version_of(seen);
    auto answered = answer(seen);
    if (version_of(seen) != version) {
      throw OptionError(
          "the model writes into the x that it is given, which is the solver's; let it work on "
          "x.clone()");
    }
    return answered;
  }

  // Counts what writes into a tensor; tensors of InferenceMode do not count.
  static std::uint32_t version_of(const at::Tensor& x) {
    return x.is_inference() ? 0 : static_cast<std::uint32_t>(x._version());
  }

  Model& model_;
  const C& condition_;
  at::ScalarType asked_;
  at::Tensor time_{};
};

/// How many parts an evaluation of `samples` is worth, with so many threads. A dense layer takes
/// two operations a weight and sample.
template <ModuleHandle Model>
std::int64_t evaluation_parts(Model& model, std::int64_t samples, std::int64_t threads) {
  if (threads == 1) return 1;
  std::int64_t weights = 0;
  for (const at::Tensor& p : module_of(model).parameters()) weights += p.is_cpu() ? p.numel() : 0;
  return parts_worth(threads, samples, 2 * weights * samples, 2'000'000);
}

/// Whether evaluations at points such as x [B, …] are sure to mean the same in parts.
template <ModuleHandle Model, Condition C>
bool evaluates_in_parts(Model& model, const at::Tensor& x, const C& condition,
                        at::ScalarType asked) {
  if (!x.is_cpu() || x.size(0) < 2 || !SideBySide<Model>::possible(model)) return false;
  const OneThread each_operation;  // OpenMP's others would spin while the parts' begin
  SideBySide<Model> copy(model);
  return answers_by_sample(
      x.size(0),
      [&](std::int64_t begin, std::int64_t end) {
        const C own = slice_condition(condition, begin, end, x.device());
        return VelocityField<Model, C>(copy(model), own, asked)(x.slice(0, begin, end), 0.5);
      },
      [](const at::Tensor& a, const at::Tensor& b) {
        return at::cat({a, b});
      });
}

/// The same of a network whose evaluations are done in parts, a thread each.
template <ModuleHandle Model, Condition C>
class VelocityInParts {
 public:
  VelocityInParts(Model& model, const C& condition, at::ScalarType asked, std::int64_t samples,
                  std::int64_t parts)
      : answers_(static_cast<std::size_t>(parts)), team_(parts) {
    for (std::int64_t i = 0; i < parts; ++i) {
      parts_.emplace_back(model, condition, asked, samples * i / parts, samples * (i + 1) / parts);
    }
  }

  at::Tensor operator()(const at::Tensor& x, double t) {
    team_(static_cast<std::int64_t>(parts_.size()), [&](std::int64_t i) {
      const auto place = static_cast<std::size_t>(i);
      Part& part = parts_[place];
      answers_[place] = part.field(x.slice(0, part.begin, part.end), t);
    });
    return at::cat(answers_);
  }

 private:
  struct Part {
    Part(Model& shared, const C& all, at::ScalarType asked, std::int64_t first, std::int64_t last)
        : begin(first),
          end(last),
          condition(slice_condition(all, first, last, c10::kCPU)),
          model(shared),
          field(model(shared), condition, asked) {}
    std::int64_t begin, end;
    C condition;
    SideBySide<Model> model;
    VelocityField<Model, C> field;  // keeps the addresses of both
  };

  std::deque<Part> parts_{};  // which never moves them
  std::vector<at::Tensor> answers_;
  ThreadTeam team_;
};

}}}  // namespace flowmatch::detail
