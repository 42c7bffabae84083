#pragma once

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <concepts>
#include <tuple>
#include <utility>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/model/eval_scope.hpp"
#include "flowmatch/model/flow_map.hpp"
#include "flowmatch/model/velocity_model.hpp"

namespace flowmatch { inline namespace v0 {

/// Guidance that is learned: a model whose condition is a pair, of the data's and a scale s, is to
/// be the guided velocity of that scale, so that one evaluation gives it. The target becomes
///
///     v_0 + s (target - v_0),     v_0 = the model's own velocity with `null` and scale 1,
///
/// in evaluation mode and without a gradient (Geng et al. 2025, eq. 19; scales as a condition:
/// arXiv 2512.02012, section 4.2). It needs examples without the data's condition now and then, by
/// `ConditionDropout`, and scales, by `GuidanceScales`; a scale of 1 is the condition alone.
///
///     fm::SelfGuidedLoss loss(fm::MeanFlowLoss(), std::tuple{torch::tensor({10}),
///     torch::ones({1})});
///
/// `null` is one sample's pair. The model is a VelocityModel or a FlowMapModel. Throws ShapeError
/// for a null that holds another number of entries, for scales that are not [B], and for an output
/// that is not of x_t's shape.
template <class ObjectiveT, class C>
class SelfGuidedLoss {
 public:
  /// The data's condition and a scale.
  using condition_type = std::tuple<C, at::Tensor>;

  /// Of an objective and the pair that stands for no condition.
  SelfGuidedLoss(ObjectiveT objective, condition_type null)
      : objective_(std::move(objective)), null_(std::move(null)) {
    check_condition_size(null_, 1);
  }

  /// The scalar loss of a training example.
  template <class Model, class Example>
  requires std::derived_from<Example, Noised<condition_type>> &&
      std::invocable<const ObjectiveT&, Model&, const Example&>
          at::Tensor operator()(Model& model, const Example& noised) const {
    Example guided = noised;
    const at::Tensor target = noised.target.to(state_dtype(noised.target));
    const at::Tensor scale = expand_time(std::get<1>(noised.condition), noised.x_t);
    guided.target = at::lerp(unconditional(model, noised).to(target.scalar_type()), target,
                             scale.to(target.scalar_type()))
                        .to(noised.target.scalar_type());
    return objective_(model, guided);
  }

 private:
  template <class Model>
  at::Tensor unconditional(Model& model, const Noised<condition_type>& noised) const {
    using traits = condition_traits<condition_type>;
    const at::NoGradGuard no_grad;
    const EvalScope eval(model);
    const at::Tensor& x = noised.x_t;
    const condition_type null = traits::to(traits::repeat_interleave(null_, x.size(0)), x.device());
    at::Tensor v;
    if constexpr (FlowMapModel<Model, condition_type>) {
      v = call_flow_map(model, x, noised.t, noised.t, null);
    } else {
      v = call_model(model, x, noised.t, null);
    }
    check_same_shape(v, "the model's output", x, "its input x");
    return v;
  }

  ObjectiveT objective_;
  condition_type null_;
};
template <class O, class C>
SelfGuidedLoss(O, std::tuple<C, at::Tensor>) -> SelfGuidedLoss<O, C>;

}}  // namespace flowmatch
