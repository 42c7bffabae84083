#pragma once

#include <ATen/Functions.h>

#include <cstdint>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
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

}}}  // namespace flowmatch::detail
