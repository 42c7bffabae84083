#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <cstdint>
#include <mutex>
#include <tuple>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/model/eval_scope.hpp"
#include "flowmatch/model/flow_map.hpp"

namespace flowmatch { inline namespace v0 {

/// How a derivative along a direction is found: by dual numbers, in one pass; or by the derivative
/// of a derivative, which operations without a forward derivative have too, in three.
enum class Derivative { forward, double_backward };

namespace detail {

/// LibTorch has one level of dual numbers for the whole process.
inline std::mutex& dual_level() {
  static std::mutex mutex;
  return mutex;
}

/// d/ds f(x + s dx, t + s) at s = 0, without a gradient of its own. One at a time in a process.
template <class F>
at::Tensor derivative_forward(const F& f, const at::Tensor& x, const at::Tensor& dx,
                              const at::Tensor& t) {
  const std::lock_guard one_at_a_time(dual_level());
  const at::NoGradGuard no_grad;  // which leaves forward derivatives be
  const struct Level {
    std::uint64_t number = torch::autograd::forward_ad::enter_dual_level();
    ~Level() { torch::autograd::forward_ad::exit_dual_level(number); }
  } level;
  const auto number = static_cast<std::int64_t>(level.number);
  const at::Tensor y = f(at::_make_dual(x.detach(), dx.detach().to(x.scalar_type()), number),
                         at::_make_dual(t.detach(), at::ones_like(t), number));
  const at::Tensor derivative = std::get<1>(at::_unpack_dual(y, number));
  return derivative.defined() ? derivative.clone() : at::zeros_like(y);
}

/// The same by reverse mode twice: w -> J^T w is linear, and J dx the gradient of <J^T w, dx> by w.
template <class F>
at::Tensor derivative_backward(const F& f, const at::Tensor& x, const at::Tensor& dx,
                               const at::Tensor& t) {
  const at::AutoGradMode with_grad(true);
  const at::Tensor x_ = x.detach().requires_grad_(), t_ = t.detach().requires_grad_();
  const at::Tensor y = f(x_, t_);
  const at::Tensor w = at::zeros_like(y).requires_grad_();
  const auto by_inputs = torch::autograd::grad({y}, {x_, t_}, {w}, /*retain_graph=*/true,
                                               /*create_graph=*/true, /*allow_unused=*/true);
  at::Tensor along;
  if (by_inputs[0].defined()) along = (by_inputs[0] * dx.detach()).sum();
  if (by_inputs[1].defined()) {
    along = along.defined() ? along + by_inputs[1].sum() : by_inputs[1].sum();
  }
  if (!along.defined() || !along.requires_grad()) return at::zeros_like(y);
  const at::Tensor derivative =
      torch::autograd::grad({along}, {w}, {}, false, false, /*allow_unused=*/true)[0];
  return derivative.defined() ? derivative.detach() : at::zeros_like(y);
}

}  // namespace detail

/// Options of `MeanFlowLoss`.
struct MeanFlowOptions {
  double power = 1;           ///< p of the weight 1 / (|error|^2 + c)^p of each sample; 0: none
  double floor = 1e-3;        ///< c
  bool own_velocity = false;  ///< along u(x, t, t) instead of dx_t: improved mean flows
  Derivative derivative = Derivative::forward;  ///< how du/dt is found

  /// Throws OptionError for values out of range.
  void validate() const {
    if (!(power >= 0) || !std::isfinite(power) || !(floor > 0) || !std::isfinite(floor)) {
      throw OptionError("a mean flow's weight with power " + number_text(power) + " and floor " +
                        number_text(floor) +
                        "; choose a finite power of at least 0 and a finite floor above 0");
    }
  }
};

/// The objective of mean flows, of examples by `TwoTimeNoisifier`: the model u(x, t, r) is to be
/// the average velocity from t to r. With (r - t) u = x_r - x_t differentiated along the flow,
///
///     u(x_t, t, r) = v + (r - t) (v . d/dx + d/dt) u(x_t, t, r),
///
/// whose right side, with dx_t for v, is the target, without a gradient (Geng et al. 2025, eq. 6 to
/// 11, in this direction of time). With `own_velocity` the direction is the model's own u(x, t, t),
/// as in improved mean flows (arXiv 2512.02012), whose loss on v this is. Each sample's squared
/// error is divided by its own size to a power.
///
/// The derivative is taken in evaluation mode, no dropout, running statistics of BatchNorm; and
/// only of samples whose times differ, as for the others it counts for nothing. As it needs no
/// gradient, ranks that train together exchange the same gradients as ever. An operation
/// without a forward derivative throws LibTorch's error, which names it: choose double_backward
/// then. Throws OptionError for options out of range, ShapeError for an output of another shape.
class MeanFlowLoss {
 public:
  /// With options.
  explicit MeanFlowLoss(MeanFlowOptions options = {}) : options_(options) { options_.validate(); }

  /// The scalar loss of a training example.
  template <class Model, class C>
  requires FlowMapModel<Model, C> at::Tensor operator()(Model& model,
                                                        const TwoTimeNoised<C>& noised) const {
    const at::Tensor target = target_of(model, noised);
    const at::Tensor u = call_flow_map(model, noised.x_t, noised.t, noised.r, noised.condition);
    check_same_shape(u, "the model's output", noised.x_t, "its input x");
    const at::Tensor error = (u.to(target.scalar_type()) - target).square();
    const at::Tensor each = error.dim() > 1 ? error.flatten(1).sum(1) : error;
    if (options_.power == 0) return each.mean();
    return (each / (each.detach() + options_.floor).pow(options_.power)).mean();
  }

  /// What u(x_t, t, r) is to be, without a gradient [B, …].
  template <class Model, class C>
  at::Tensor target_of(Model& model, const TwoTimeNoised<C>& noised) const {
    at::Tensor target = noised.target.to(state_dtype(noised.target));
    const at::Tensor apart =
        noised.apart.defined() ? noised.apart : (noised.r != noised.t).nonzero().flatten();
    if (apart.size(0) == 0) return target;
    const auto chosen = [&](const at::Tensor& all) { return all.index_select(0, apart); };
    const at::Tensor x = chosen(noised.x_t), t = chosen(noised.t), r = chosen(noised.r);
    const C condition = condition_traits<C>::index_select(noised.condition, apart);
    const EvalScope eval(model);
    const auto u = [&](const at::Tensor& x_, const at::Tensor& t_) {
      return call_flow_map(model, x_, t_, r, condition);
    };
    at::Tensor along = chosen(noised.target);
    if (options_.own_velocity) {
      const at::NoGradGuard no_grad;
      along = call_flow_map(model, x, t, t, condition);
    }
    const at::Tensor du = options_.derivative == Derivative::forward
                              ? detail::derivative_forward(u, x, along, t)
                              : detail::derivative_backward(u, x, along, t);
    const at::Tensor span = expand_time(r - t, x).to(target.scalar_type());
    return target.index_add(0, apart, span * du.to(target.scalar_type()));
  }

 private:
  MeanFlowOptions options_;
};

}}  // namespace flowmatch
