#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <utility>

#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/loss/mse.hpp"
#include "flowmatch/model/eval_scope.hpp"
#include "flowmatch/model/flow_map.hpp"
#include "flowmatch/model/velocity_model.hpp"
#include "flowmatch/path/conversion.hpp"
#include "flowmatch/path/schedulers.hpp"

namespace flowmatch { inline namespace v0 {

/// Distribution matching distillation (Yin et al. 2024, "One-step diffusion with distribution
/// matching distillation"): a generator x = G(x_0) of one evaluation learns to make samples of a
/// trained flow's distribution. Two flows look at a sample x mixed with new noise,
/// x_s = alpha_s x + sigma_s epsilon: the teacher, whose data are what is wanted, and the critic,
/// whose data are what the generator makes. Each says which x_1 it expects there,
///
///     g = (x_1 of the critic - x_1 of the teacher) / mean |x - x_1 of the teacher|,
///
/// and x goes against g, which is the gradient of the Kullback-Leibler divergence from the
/// generator's distribution to the teacher's at that noise, weighted (eq. 7 and 8 there). Unlike
/// the targets of `MeanFlowLoss`, no sample has to go where the teacher would take it, so nothing
/// is blurred. The scalar loss is
///
///     1/2 mean (x - sg(x - g))^2  +  mean (v_critic(x_s, s) - d/ds x_s)^2,
///
/// with sg for "without a gradient": its first term trains the generator alone, and its second, by
/// flow matching on the generator's samples, the critic alone. One optimizer serves both; a
/// ParameterGroup of the prefix "critic" gives the critic a rate of its own.
///
///     fm::GeneratorAndCritic<Net> both(student, critic);  // the critic begins as the teacher is
///     fm::Trainer trainer(both, fm::MatchingNoisifier(), options,
///                         fm::DistributionMatchingLoss(teacher));
///     trainer.fit(batches);
///     fm::Sampler one_step(fm::FlowMap{both.generator}, fm::FlowMapStep{},
///                          fm::TimeGrid::uniform(1));
///
/// The generator is a FlowMapModel, x = x_0 + u(x_0, 0, 1), or a VelocityModel, x = x_0 + v(x_0,
/// 0); it is best trained before (a mean flow), as matching corrects samples rather than inventing
/// them. The critic is a VelocityModel, or a FlowMapModel, whose velocity is u(x, t, t). The
/// teacher is any VelocityModel of the scheduler's path, guided ones too, taken as the Sampler
/// takes a model; it is asked in evaluation mode and left as it is. Throws ShapeError for an output
/// of another shape.
template <class Teacher, Scheduler SchedulerT = CondOTScheduler>
class DistributionMatchingLoss {
 public:
  /// Of a trained flow, on the path of `scheduler`.
  explicit DistributionMatchingLoss(Teacher teacher, SchedulerT scheduler = {})
      : teacher_(std::move(teacher)), scheduler_(std::move(scheduler)) {}

  /// The scalar loss of a training example; `model` holds a `generator` and a `critic`, as
  /// GeneratorAndCritic does.
  template <ModuleHandle Model, class C>
  at::Tensor operator()(Model& model, const MatchingNoised<C>& noised) const {
    auto& both = module_of(model);
    const at::Tensor x = generated(both.generator, noised), made = x.detach();
    const Coefficients c = coefficients_at(scheduler_, noised.look, made);
    const at::Tensor x_s = c.alpha_t * made + c.sigma_t * noised.noise;
    const at::Tensor of_critic = velocity(both.critic, x_s, noised.look, noised.condition);
    check_same_shape(of_critic, "the critic's velocity", x_s, "its input x");
    const at::Tensor of_samples = c.d_alpha_t * made + c.d_sigma_t * noised.noise;
    const at::Tensor apart = x - (made - direction(noised, c, made, x_s, of_critic.detach()));
    return 0.5 * apart.square().mean() + Mse{}(of_critic, of_samples);
  }

 private:
  template <class Critic, class C>
  static at::Tensor velocity(Critic& critic, const at::Tensor& x, const at::Tensor& t,
                             const C& condition) {
    if constexpr (VelocityModel<Critic, C>) {
      return call_model(critic, x, t, condition);
    } else {
      return call_flow_map(critic, x, t, t, condition);
    }
  }

  template <class Generator, class C>
  static at::Tensor generated(Generator& generator, const MatchingNoised<C>& noised) {
    const at::Tensor& x_0 = noised.x_t;
    at::Tensor u;
    if constexpr (FlowMapModel<Generator, C>) {
      u = call_flow_map(generator, x_0, noised.t, at::ones_like(noised.t), noised.condition);
    } else {
      u = call_model(generator, x_0, noised.t, noised.condition);
    }
    check_same_shape(u, "the generator's output", x_0, "its input x");
    return x_0 + u.to(state_dtype(x_0));
  }

  /// g [B, …].
  template <class C>
  at::Tensor direction(const MatchingNoised<C>& noised, const Coefficients& c, const at::Tensor& x,
                       const at::Tensor& x_s, const at::Tensor& of_critic) const {
    const at::NoGradGuard no_grad;
    const EvalScope eval(teacher_);
    const at::Tensor of_teacher = call_model(teacher_, x_s, noised.look, noised.condition);
    check_same_shape(of_teacher, "the teacher's velocity", x_s, "its input x");
    const at::Tensor wanted = x_1_from_velocity(c, x_s, of_teacher);
    const at::Tensor away = (x - wanted).abs().flatten(1).mean(1);
    return (x_1_from_velocity(c, x_s, of_critic) - wanted) / expand_time(away + smallest, x);
  }

  static constexpr double smallest = 1e-3;  // where the teacher knows x already, as at s = 1

  mutable Teacher teacher_;  // a model is called as what may change
  SchedulerT scheduler_;
};
template <class T, class... S>
DistributionMatchingLoss(T&&, S...) -> DistributionMatchingLoss<model_storage_t<T>, S...>;

}}  // namespace flowmatch
