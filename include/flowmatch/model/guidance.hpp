#pragma once

#include <ATen/Functions.h>

#include <concepts>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/model/guidance_rules.hpp"
#include "flowmatch/model/modules_in.hpp"
#include "flowmatch/model/velocity_model.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

/// Whether a rule has to be asked at these times.
template <GuidanceRule Rule>
bool rule_applies(const Rule& rule, const at::Tensor& t) {
  if constexpr (requires { rule.applies(t); }) {
    return rule.applies(t);
  } else {
    return true;
  }
}

}  // namespace detail

/// Classifier-free guidance: a model that was trained with and without conditions (see
/// `ConditionDropout`) is led further to the condition than it would go (Ho & Salimans 2022), by
/// any GuidanceRule: linear, CFG-Zero*, projected, each in an interval of times. Both velocities
/// are of one call with the samples twice, with their condition and with the null.
///
///     fm::ClassifierFreeGuidance guided(net, torch::tensor({10}), fm::LinearGuidance(2));
///     fm::Sampler(guided, fm::ode::Euler{}, grid).sample({64, 1, 28, 28}, rng, labels);
///
/// `null` is one sample's condition that stands for none, of any type with `condition_traits`. The
/// model is taken as the Sampler takes it. Throws ShapeError for a null that holds another number
/// of entries, and for a velocity that is not of x's shape.
template <class Model, Condition C, GuidanceRule Rule = LinearGuidance>
class ClassifierFreeGuidance {
  static_assert(detail::paths_agree<Model, Rule>,
                "flowmatch: this rule is right along the straight path, and the model is a "
                "velocity of another one; give Rescheduled(model, its scheduler, "
                "CondOTScheduler{})");

 public:
  /// Of a model, the null, and the `rule` that makes one velocity of two.
  ClassifierFreeGuidance(Model model, C null, Rule rule)
      : model_(std::move(model)), null_(std::move(null)), rule_(std::move(rule)) {
    check_condition_size(null_, 1);
  }

  /// v(x, t, condition) [B, …].
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& t, const C& condition) {
    static_assert(VelocityModel<Model, C>,
                  "flowmatch: the guided model cannot be called as forward(x, t, condition) with a "
                  "condition of the null's type");
    using traits = condition_traits<C>;
    if (!detail::rule_applies(rule_, t)) {
      const at::Tensor alone = call_model(model_, x, t, condition);
      check_same_shape(alone, "the model's output", x, "its input x");
      return alone;
    }
    const C null = traits::to(traits::repeat_interleave(null_, x.size(0)), x.device());
    const at::Tensor twice = at::cat({x, x});
    const at::Tensor both =
        call_model(model_, twice, at::cat({t, t}), traits::cat(std::vector<C>{condition, null}));
    check_same_shape(both, "the model's output", twice, "its input");
    const std::vector<at::Tensor> v = both.chunk(2);
    return rule_(v[0], v[1], x, t);
  }

  /// The model inside.
  Model& model() noexcept { return model_; }

 private:
  Model model_;
  C null_;
  Rule rule_;
};
template <class M, class C, class Rule>
ClassifierFreeGuidance(M&&, C, Rule) -> ClassifierFreeGuidance<model_storage_t<M>, C, Rule>;

/// Autoguidance: a model led away from a worse one, smaller or trained less, which makes the same
/// errors larger (Karras et al. 2024). Both get the same condition; either may be guided itself.
/// The models are taken as the Sampler takes them. Throws ShapeError where their velocities are of
/// another shape than x.
///
///     fm::Autoguidance guided(net, small_net, fm::LinearGuidance(1.5));
template <class Model, class Weak, GuidanceRule Rule = LinearGuidance>
class Autoguidance {
  static_assert(detail::paths_agree<Model, Rule> && detail::paths_agree<Weak, Rule>,
                "flowmatch: this rule is right along the straight path, and the model is a "
                "velocity of another one; give Rescheduled(model, its scheduler, "
                "CondOTScheduler{})");

 public:
  /// Of a model, a worse one (`weak`), and the `rule` that makes one velocity of both.
  Autoguidance(Model model, Weak weak, Rule rule)
      : model_(std::move(model)), weak_(std::move(weak)), rule_(std::move(rule)) {}

  /// v(x, t[, condition]) [B, …].
  template <class C = NoCondition>
  requires VelocityModel<Model, C> && VelocityModel<Weak, C> at::Tensor operator()(
      const at::Tensor& x, const at::Tensor& t, const C& condition = C{}) {
    const at::Tensor good = call_model(model_, x, t, condition);
    check_same_shape(good, "the model's output", x, "its input x");
    if (!detail::rule_applies(rule_, t)) return good;
    const at::Tensor bad = call_model(weak_, x, t, condition);
    check_same_shape(bad, "the weak model's output", x, "its input x");
    return rule_(good, bad.to(good.scalar_type()), x, t);
  }

  /// The models inside.
  auto models() noexcept { return std::tie(model_, weak_); }

 private:
  Model model_;
  Weak weak_;
  Rule rule_;
};
template <class M, class W, class Rule>
Autoguidance(M&&, W&&, Rule) -> Autoguidance<model_storage_t<M>, model_storage_t<W>, Rule>;

}}  // namespace flowmatch
