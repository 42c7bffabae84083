#pragma once

#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/parallel_for.hpp"
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

/// How many parts an evaluation at x [B, …] is worth: 1 where it is not sure to mean the same. A
/// dense layer takes two operations a weight and sample.
template <ModuleHandle Model, Condition C>
std::int64_t velocity_parts(Model& model, const at::Tensor& x, const C& condition,
                            at::ScalarType asked) {
  const std::int64_t samples = x.size(0);
  std::int64_t weights = 0;
  for (const at::Tensor& p : module_of(model).parameters()) weights += p.is_cpu() ? p.numel() : 0;
  const std::int64_t parts =
      parts_worth(at::get_num_threads(), samples, 2 * weights * samples, 2'000'000);
  if (parts == 1 || !x.is_cpu() || !SideBySide<Model>::possible(model)) return 1;
  SideBySide<Model> copy(model);
  const bool same = answers_by_sample(
      samples,
      [&](std::int64_t begin, std::int64_t end) {
        const C own = condition_traits<C>::index_select(condition, at::arange(begin, end));
        return VelocityField<Model, C>(copy(model), own, asked)(x.slice(0, begin, end), 0.5);
      },
      [](const at::Tensor& a, const at::Tensor& b) {
        return at::cat({a, b});
      });
  return same ? parts : 1;
}

/// The same of a network whose evaluations are done in parts, a thread each.
template <ModuleHandle Model, Condition C>
class VelocityInParts {
  using Field = VelocityField<Model, C>;

 public:
  VelocityInParts(Model& model, const C& condition, at::ScalarType asked, std::int64_t samples,
                  std::int64_t parts)
      : answers_(static_cast<std::size_t>(parts)), team_(parts) {
    parts_.reserve(answers_.size());
    for (std::int64_t i = 0; i < parts; ++i) {
      const std::int64_t begin = samples * i / parts, end = samples * (i + 1) / parts;
      Part& part = parts_.emplace_back(
          begin, end, condition_traits<C>::index_select(condition, at::arange(begin, end)),
          SideBySide<Model>(model));
      part.field.emplace(part.model(model), part.condition, asked);
    }
  }

  at::Tensor operator()(const at::Tensor& x, double t) {
    team_(static_cast<std::int64_t>(parts_.size()), [&](std::int64_t i) {
      Part& part = parts_[static_cast<std::size_t>(i)];
      answers_[static_cast<std::size_t>(i)] = (*part.field)(x.slice(0, part.begin, part.end), t);
    });
    return at::cat(answers_);
  }

 private:
  struct Part {
    Part(std::int64_t begin_, std::int64_t end_, C condition_, SideBySide<Model> model_)
        : begin(begin_), end(end_), condition(std::move(condition_)), model(std::move(model_)) {}
    std::int64_t begin, end;
    C condition;
    SideBySide<Model> model;
    std::optional<Field> field{};
  };

  std::vector<Part> parts_{};
  std::vector<at::Tensor> answers_;
  ThreadTeam team_;
};

}}}  // namespace flowmatch::detail
