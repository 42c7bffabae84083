#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <type_traits>
#include <utility>

#include "flowmatch/model/modules_in.hpp"
#include "flowmatch/model/velocity_model.hpp"
#include "flowmatch/path/conversion.hpp"

namespace flowmatch { inline namespace v0 {

/// A velocity model of one affine path, sampled along another one: a diffusion network along the
/// straight path, say. At time t of the new path it is asked at the time s of its own at which the
/// signal-to-noise ratio is the same, and at x / c, which has its own path's scale there:
///   v(x, t) = c' x / c + c s' u(x / c, s),
///   c s' = (d_alpha_t sigma_s - d_sigma_t alpha_s) / D_s,
///   c' = (d_alpha_s d_sigma_t - d_alpha_t d_sigma_s) / D_s,
/// D as in path/conversion.hpp (Lipman et al. 2024, post-training velocity scheduler change). Both
/// take the same noise to the same data. At t = 1 the model is asked at s = 1, and near t = 0,
/// where a small error of it would make a large one of v, at no s with alpha_s below 0.05. Takes
/// the model as the trainer does; one that is known to be a velocity of another path than From's
/// does not compile. Throws ShapeError where its output is not of x's shape.
///
///   Rescheduled(VelocityFromEpsilon(net, CosineScheduler{}), CosineScheduler{}, CondOTScheduler{})
template <class Model, InvertibleScheduler From, Scheduler To>
class Rescheduled {
  static_assert(std::is_void_v<velocity_scheduler_t<Model>> ||
                    std::is_same_v<velocity_scheduler_t<Model>, From>,
                "flowmatch: the model is a velocity of another path than the one that Rescheduled "
                "is told; give it the scheduler that the model was made with");

 public:
  /// The path that it is a velocity of now.
  using scheduler_type = To;

  /// A velocity of the path of `from`, made one of the path of `to`.
  Rescheduled(Model model, From from, To to)
      : model_(std::move(model)),
        from_(std::move(from)),
        to_(std::move(to)),
        earliest_(detail::data_shows_at(from_)) {}

  /// v(x, t) on the path of `to`, [B, …].
  template <class C = NoCondition>
  requires VelocityModel<Model, C> at::Tensor operator()(const at::Tensor& x, const at::Tensor& t,
                                                         const C& condition = C{}) {
    const Coefficients there = coefficients_at(to_, t, x);
    const at::Tensor s = own_time(t);
    const Coefficients own = coefficients_at(from_, s, x);
    const at::Tensor scale =
        at::hypot(there.alpha_t, there.sigma_t) / at::hypot(own.alpha_t, own.sigma_t);
    const at::Tensor d = detail::determinant(own);
    const at::Tensor d_scale =
        (own.d_alpha_t * there.d_sigma_t - there.d_alpha_t * own.d_sigma_t) / d;
    const at::Tensor rate = (there.d_alpha_t * own.sigma_t - there.d_sigma_t * own.alpha_t) / d;
    const at::Tensor y = x / scale;
    const at::Tensor u = call_model(model_, y, s, condition);
    check_same_shape(u, "the model's output", x, "its input x");
    return d_scale * y + rate * u;
  }

  /// The model inside.
  Model& model() noexcept { return model_; }

 private:
  /// The model's own time at time t of the new path.
  at::Tensor own_time(const at::Tensor& t) const {
    const Coefficients at_t = to_(t);
    const at::Tensor arrived = detail::vanishes(at_t.sigma_t);
    const at::Tensor ratio = at_t.alpha_t / detail::floored(at_t.sigma_t);
    return at::where(arrived, 1.0, from_.snr_inverse(ratio).clamp_min(earliest_));
  }

  Model model_;
  [[no_unique_address]] From from_;
  [[no_unique_address]] To to_;
  double earliest_;
};
template <class M, class From, class To>
Rescheduled(M&&, From, To) -> Rescheduled<model_storage_t<M>, From, To>;

}}  // namespace flowmatch
