#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/optim/clip.hpp"

namespace flowmatch { inline namespace v0 {

/// Dynamic loss scaling, without which small gradients vanish in float16 (Micikevicius et al. 2018,
/// section 3.2), with torch.amp.GradScaler's numbers: the loss is multiplied by a scale that starts
/// at 65,536, doubles after 2,000 good steps in a row and is halved by a step whose gradients
/// overflow. Never waits for the device.
class LossScaler {
 public:
  static constexpr double initial_scale = 65536;         ///< of a new run
  static constexpr double growth = 2;                    ///< after growth_interval good steps
  static constexpr double backoff = 0.5;                 ///< after a step that overflowed
  static constexpr std::int64_t growth_interval = 2000;  ///< good steps in a row

  /// With the initial scale.
  explicit LossScaler(c10::Device device)
      : scale_(at::full({}, initial_scale, at::TensorOptions(at::kFloat).device(device))),
        good_steps_(at::zeros({}, at::TensorOptions(at::kInt).device(device))) {}

  /// The loss to go backward from.
  at::Tensor scale(const at::Tensor& loss) const { return loss * scale_; }

  /// Divides the parameters' gradients by the scale. Returns 1 where one of them is NaN or
  /// infinite, else 0: a float32 scalar on the device.
  at::Tensor unscale(const std::vector<at::Tensor>& parameters) const {
    const at::NoGradGuard no_grad;
    std::map<std::string, std::vector<at::Tensor>> by_device;
    for (const at::Tensor& p : parameters) {
      // A place that a sparse gradient names twice may overflow only as a sum.
      if (p.grad().defined() && p.grad().is_sparse())
        at::Tensor(p).mutable_grad() = p.grad().coalesce();
    }
    for (at::Tensor grad : detail::gradients(parameters)) {
      if (grad.is_sparse()) grad = grad.values();
      if (grad.is_complex()) grad = at::view_as_real(grad);
      by_device[grad.device().str()].push_back(without_repetitions(grad));
    }
    at::Tensor found_inf = at::zeros_like(scale_);
    for (const auto& [device, grads] : by_device) {
      at::Tensor found = at::zeros_like(scale_, grads.front().device());
      at::_amp_foreach_non_finite_check_and_unscale_(grads, found,
                                                     scale_.reciprocal().to(found.device()));
      found_inf = at::maximum(found_inf, found.to(found_inf.device()));
    }
    return found_inf;
  }

  /// Adapts the scale to what `unscale` found, `found_inf`.
  void update(const at::Tensor& found_inf) {
    at::_amp_update_scale_(scale_, good_steps_, found_inf, growth, backoff, growth_interval);
  }

  /// Whether a smaller scale could still cure an overflow: a bool scalar on the device.
  at::Tensor reducible() const { return scale_ > 1; }

  /// Both wait for the device.
  double value() const { return scale_.item<double>(); }
  /// In a row, since the scale last changed.
  std::int64_t good_steps() const { return good_steps_.item<int>(); }

  /// Goes on with a scale after `good_steps` in a row. Throws CheckpointError for what no scaler
  /// has.
  void restore(double scale, std::int64_t good_steps) {
    if (!(scale > 0) || good_steps < 0 || good_steps > growth_interval) {
      throw CheckpointError("a loss scale of " + number_text(scale) + " after " +
                            std::to_string(good_steps) +
                            " good steps; start from another checkpoint");
    }
    scale_.fill_(scale);
    good_steps_.fill_(good_steps);
  }

 private:
  at::Tensor scale_;
  at::Tensor good_steps_;
};

}}  // namespace flowmatch
