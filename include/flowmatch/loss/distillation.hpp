#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

#include <concepts>
#include <utility>

#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/loss/objective.hpp"
#include "flowmatch/model/eval_scope.hpp"
#include "flowmatch/model/velocity_model.hpp"

namespace flowmatch { inline namespace v0 {

/// A training example whose target is a trained model's velocity v(x_t, t, condition), without a
/// gradient and in evaluation mode, instead of that of its own path. `teacher` is any
/// VelocityModel of the path that the examples lie on, guided ones too; one of another path goes
/// through `Rescheduled` first. Throws ShapeError where its output is not of x_t's shape.
template <class Teacher, class Example>
Example taught(Teacher& teacher, Example noised) {
  const at::NoGradGuard no_grad;
  const EvalScope eval(teacher);
  const at::Tensor v = call_model(teacher, noised.x_t, noised.t, noised.condition);
  check_same_shape(v, "the teacher's velocity", noised.x_t, "its input x");
  noised.target = v.to(noised.target.scalar_type());
  return noised;
}

/// Distillation: an objective whose targets are the velocities of a trained model, `taught`.
/// The velocity of a sample's own path is right on average only; that of a good teacher is right
/// each time, so a student has to see less data. With `MeanFlowLoss` the student learns to go the
/// teacher's way in one step, or in few (the mean flow along a teacher: Sabour et al. 2025, "Align
/// your flow", section 3); with `PredictionLoss` a smaller network, or a guided teacher's way
/// without its second model.
///
///     fm::Trainer trainer(student, fm::TwoTimeNoisifier(fm::LinearPath{}), options,
///                         fm::DistillationLoss(fm::MeanFlowLoss(), teacher));
///
/// The teacher is taken as the Sampler takes a model; training leaves it as it is. Throws what
/// `taught` and the objective throw.
template <class ObjectiveT, class Teacher>
class DistillationLoss {
 public:
  /// Of an objective and a trained model.
  DistillationLoss(ObjectiveT objective, Teacher teacher)
      : objective_(std::move(objective)), teacher_(std::move(teacher)) {}

  /// The scalar loss of a training example.
  template <class Model, class Example>
  requires std::invocable<const ObjectiveT&, Model&, const Example&> at::Tensor operator()(
      Model& model, const Example& noised) const {
    return objective_(model, taught(teacher_, noised));
  }

 private:
  ObjectiveT objective_;
  mutable Teacher teacher_;  // a model is called as what may change
};
template <class O, class T>
DistillationLoss(O, T&&) -> DistillationLoss<O, model_storage_t<T>>;

}}  // namespace flowmatch
