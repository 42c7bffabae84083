#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <utility>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/model/modules_in.hpp"
#include "flowmatch/model/velocity_model.hpp"
#include "flowmatch/path/affine.hpp"
#include "flowmatch/path/schedulers.hpp"

namespace flowmatch { inline namespace v0 {

/// Inpainting: the known elements of a sample go straight from their noise to their value, and the
/// model fills the rest in beside them:
///
///     v = (known - x) / (1 - t) where mask, else the model's
///
/// (the replacement of Song et al. 2021, appendix I.2, along the straight path: what is known lies
/// on its path at all times). `known` and `mask` (bool) are of one sample, [1, …] or […]; all
/// samples complete the same one. A Sampler ends exactly at what is known. The model, of the
/// straight path, is taken as the Sampler takes it. Throws ShapeError where the shapes do not fit.
template <class Model>
class Inpainting {
  static_assert(detail::paths_agree<Model, LinearPath>,
                "flowmatch: this is right along the straight path, and the model is a velocity of "
                "another one; give Rescheduled(model, its scheduler, CondOTScheduler{})");

 public:
  /// See `singular_at_end`: the last step is Euler's, which ends at what is known.
  static constexpr bool singular_at_end = true;
  /// Of the path that it is right for.
  using scheduler_type = CondOTScheduler;

  /// Of its parts.
  Inpainting(Model model, at::Tensor known, at::Tensor mask)
      : model_(std::move(model)), known_(std::move(known)), mask_(std::move(mask)) {
    check_same_shape(known_, "what is known", mask_, "the mask");
    if (mask_.scalar_type() != at::kBool) {
      throw ShapeError(std::string("the mask is ") + toString(mask_.scalar_type()) +
                       "; give truth values, true where known");
    }
  }

  /// v(x, t[, condition]) [B, …].
  template <class C = NoCondition>
  requires VelocityModel<Model, C> at::Tensor operator()(const at::Tensor& x, const at::Tensor& t,
                                                         const C& condition = C{}) {
    const at::Tensor v = call_model(model_, x, t, condition);
    check_same_shape(v, "the model's output", x, "its input x");
    const at::Tensor one = x.slice(0, 0, 1);
    const at::Tensor known = known_.dim() < x.dim() ? known_.unsqueeze(0) : known_;
    check_same_shape(known, "what is known", one, "a sample");
    const double floor = denominator_floor(t.scalar_type());
    const at::Tensor left = expand_time((1 - t).clamp_min(floor), x).to(x.scalar_type());
    return at::where(mask_.view_as(known).to(x.device()), (known.to(x.options()) - x) / left, v);
  }

  /// The model inside.
  Model& model() noexcept { return model_; }

 private:
  Model model_;
  at::Tensor known_;
  at::Tensor mask_;
};
template <class M>
Inpainting(M&&, at::Tensor, at::Tensor) -> Inpainting<model_storage_t<M>>;

/// Options of `LinearInverse`.
struct LinearInverseOptions {
  double noise = 0.05;           ///< standard deviation of the measurement's noise, above 0
  double earliest = 0.05;        ///< guidance at earlier times is as strong as at this one
  std::int64_t iterations = 20;  ///< of conjugate gradients, at most; at least 1

  /// Throws OptionError for values out of range.
  void validate() const {
    if (!(noise > 0) || !std::isfinite(noise) || !(earliest > 0 && earliest < 1) ||
        iterations < 1) {
      throw OptionError("a linear inverse problem with noise " + number_text(noise) +
                        ", guided as from " + number_text(earliest) +
                        "; choose noise above 0, a time in (0, 1) and at least 1 iteration");
    }
  }
};

/// Samples of which a linear measurement is known, y = A x_1 + noise: parts of a picture, a blurred
/// or a smaller one, sums. The velocity is led by what the measurement says of the data that it
/// points at (ΠGDM of Song et al. 2023, for flows Pokle et al. 2024):
///
///     v + (1-t)/t (dx_1/dx)^T A^T (r^2 A A^T + noise^2)^-1 (y - A x_1),   x_1 = x + (1-t) v,
///     r^2 = (1-t)^2 / ((1-t)^2 + t^2)
///
/// which is right for data of unit variance. A is any differentiable function of [B, …] that is
/// linear and treats samples by themselves; y is of one sample, [1, …], and all samples answer to
/// it. The inverse is by conjugate gradients. The model, of the straight path, is taken as the
/// Sampler takes it, and is differentiated by x. Throws OptionError for options out of range,
/// ShapeError where A x_1 is not of y's shape.
template <class Model, std::invocable<const at::Tensor&> Operator>
class LinearInverse {
  static_assert(detail::paths_agree<Model, LinearPath>,
                "flowmatch: this is right along the straight path, and the model is a velocity of "
                "another one; give Rescheduled(model, its scheduler, CondOTScheduler{})");

 public:
  /// Of the path that it is right for.
  using scheduler_type = CondOTScheduler;

  /// Of its parts.
  LinearInverse(Model model, Operator a, at::Tensor y, LinearInverseOptions options = {})
      : model_(std::move(model)), a_(std::move(a)), y_(std::move(y)), options_(options) {
    options_.validate();
  }

  /// v(x, t[, condition]) [B, …].
  template <class C = NoCondition>
  requires VelocityModel<Model, C> at::Tensor operator()(const at::Tensor& x, const at::Tensor& t,
                                                         const C& condition = C{}) {
    const at::AutoGradMode with_gradient(true);
    const at::Tensor x_ = x.detach().requires_grad_();
    const at::Tensor v = call_model(model_, x_, t, condition).to(x.scalar_type());
    check_same_shape(v, "the model's output", x, "its input x");
    const at::Tensor time = expand_time(t, x).to(x.scalar_type()), left = 1 - time;
    const at::Tensor x_1 = x_ + left * v;
    const at::Tensor pointed_at = x_1.detach().requires_grad_();
    const at::Tensor seen = a_(pointed_at);
    check_same_shape(y_, "the measurement y", seen.slice(0, 0, 1), "that of a sample");
    // A is linear: its transposed is the same at any point, and one graph serves all steps.
    const auto transposed = [&](const at::Tensor& z) {
      return torch::autograd::grad({seen}, {pointed_at}, {z}, /*retain_graph=*/true)[0];
    };
    const at::Tensor variance = (left.square() / (left.square() + time.square())).flatten();
    const at::Tensor z = solve(transposed, variance, y_.to(seen.options()) - seen.detach());
    const at::Tensor gradient = torch::autograd::grad({x_1}, {x_}, {transposed(z)})[0];
    return (v + left / time.clamp_min(options_.earliest) * gradient).detach();
  }

  /// The model inside.
  Model& model() noexcept { return model_; }

 private:
  /// The z of each sample with (variance A A^T + noise^2) z = b; `transposed(z)` is A^T z.
  template <class Transposed>
  at::Tensor solve(const Transposed& transposed, const at::Tensor& variance, const at::Tensor& b) {
    const at::NoGradGuard no_grad;
    const auto apply = [&](const at::Tensor& p) {
      return expand_time(variance, b) * a_(transposed(p)) + options_.noise * options_.noise * p;
    };
    at::Tensor z = at::zeros_like(b), rest = b, direction = b, size = dot_per_sample(b, b);
    const double rounding = b.scalar_type() == at::kDouble ? std::numeric_limits<double>::epsilon()
                                                           : std::numeric_limits<float>::epsilon();
    const at::Tensor enough = size * (rounding * rounding);
    for (std::int64_t i = 0; i < options_.iterations; ++i) {
      // All have arrived; parts of a picture take one step. A device would have to wait for the
      // look.
      if (b.is_cpu() && size.le(enough).all().template item<bool>()) break;
      const at::Tensor image = apply(direction);
      // A sample that has arrived stays: 0 / 0 would be NaN.
      const at::Tensor step = size / dot_per_sample(direction, image).clamp_min(1e-30);
      z = z + step * direction;
      rest = rest - step * image;
      const at::Tensor next = dot_per_sample(rest, rest);
      direction = rest + next / size.clamp_min(1e-30) * direction;
      size = next;
    }
    return z;
  }

  Model model_;
  Operator a_;
  at::Tensor y_;
  LinearInverseOptions options_;
};
template <class M, class A>
LinearInverse(M&&, A, at::Tensor) -> LinearInverse<model_storage_t<M>, A>;
template <class M, class A>
LinearInverse(M&&, A, at::Tensor, LinearInverseOptions) -> LinearInverse<model_storage_t<M>, A>;

}}  // namespace flowmatch
