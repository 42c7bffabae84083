#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/ode/batch.hpp"
#include "flowmatch/solve/tensor_state.hpp"

namespace flowmatch { inline namespace v0 {

namespace ode {

/// Tensors [B, …] as batches of samples.
template <>
struct batch_traits<at::Tensor> {
  static std::int64_t size(const at::Tensor& x) { return x.size(0); }

  static void combine(at::Tensor& out, const at::Tensor& x, std::span<const double> dt,
                      std::span<const double> c, std::span<const at::Tensor> k) {
    difference(out, c, k);
    out.mul_(a_sample(dt, x)).add_(x);
  }
  static void difference(at::Tensor& out, std::span<const double> c,
                         std::span<const at::Tensor> k) {
    state_traits<at::Tensor>::difference(out, c, k);
  }
  static std::vector<double> norms(const at::Tensor& v, std::span<const double> dt,
                                   const at::Tensor& a, const at::Tensor& b,
                                   const Tolerance& tolerance) {
    if (v.numel() == 0) return std::vector<double>(dt.size());  // samples of no extent
    const at::Tensor size =
        at::maximum(a.abs(), b.abs()).to(at::kDouble).mul_(tolerance.rtol).add_(tolerance.atol);
    const at::Tensor r = (v.to(at::kDouble) * a_sample(dt, size)).div_(size).flatten(1);
    const at::Tensor norms =
        tolerance.norm == ErrorNorm::max ? r.abs().amax(1) : r.square().mean(1).sqrt();
    const at::Tensor read = norms.cpu().contiguous();  // the step's one read from the device
    const auto* first = read.const_data_ptr<double>();
    return {first, first + read.size(0)};
  }
  static void blend(at::Tensor& out, std::span<const char> chosen, const at::Tensor& from) {
    std::vector<double> mask(chosen.begin(), chosen.end());
    out = at::where(a_sample(mask, out) != 0, from, out);
  }
  static at::Tensor select(const at::Tensor& x, std::span<const std::int64_t> index) {
    return x.index_select(0, places(index, x));
  }
  static void scatter(at::Tensor& out, std::span<const std::int64_t> index, const at::Tensor& x) {
    out.index_copy_(0, places(index, out), x);
  }

 private:
  /// A number a sample, in the shape [B, 1, …] of x's dimensions.
  static at::Tensor a_sample(std::span<const double> values, const at::Tensor& x) {
    std::vector<std::int64_t> shape(static_cast<std::size_t>(x.dim()), 1);
    shape[0] = static_cast<std::int64_t>(values.size());
    return at::tensor(at::ArrayRef<double>(values.data(), values.size()), at::kDouble)
        .to(x.options())
        .view(shape);
  }
  static at::Tensor places(std::span<const std::int64_t> index, const at::Tensor& x) {
    return at::tensor(at::ArrayRef<std::int64_t>(index.data(), index.size()), at::kLong)
        .to(x.device());
  }
};

}  // namespace ode

/// What `odeint_per_sample` gives.
struct PerSampleResult {
  at::Tensor x;                     ///< [T, B, …]
  ode::BatchStatistics statistics;  ///< what it took, sample by sample
};

/// Solves dx/dt = f(x, t) for each sample of x_0 [B, …] with a step size of its own, and returns
/// all at all the times: ode::integrate_batch on tensors. f takes (x [b, …], t [b]) or, with a
/// condition, (x, t, condition) with the entries of those b samples that are still under way, and
/// returns the velocity [b, …]. t is float64 for float64 samples, else float32. Half precision is
/// summed in float32, f gets and the result has x_0's dtype. No gradients go through. Throws what
/// ode::integrate_batch throws, ShapeError where x_0 holds no floating numbers or f changes the
/// shape.
template <class Method = ode::Dopri5, class F, Condition C = NoCondition>
PerSampleResult odeint_per_sample(F&& f, const at::Tensor& x_0, const std::vector<double>& times,
                                  const C& condition = {}, const Method& method = {},
                                  const ode::AdaptiveOptions& options = {}) {
  if (!x_0.defined() || x_0.dim() < 1 || !x_0.is_floating_point()) {
    throw ShapeError("odeint_per_sample starts from a floating tensor x_0 [B, …]; got " +
                     shape_text(x_0));
  }
  check_condition_size(condition, x_0.size(0));
  const at::NoGradGuard no_grad;
  const at::Tensor start = (x_0.dim() == 1 ? x_0.unsqueeze(1) : x_0).to(state_dtype(x_0));
  C own = condition;  // of the samples that are still under way
  auto held = static_cast<std::size_t>(x_0.size(0));
  const auto velocity = [&](const at::Tensor& at_x, std::span<const double> t,
                            std::span<const std::int64_t> samples) {
    const at::Tensor time = at::tensor(at::ArrayRef<double>(t.data(), t.size()), at::kDouble)
                                .to(x_0.options().dtype(time_dtype(x_0)));
    const at::Tensor x = (x_0.dim() == 1 ? at_x.squeeze(1) : at_x).to(x_0.scalar_type());
    at::Tensor v;
    if constexpr (std::is_same_v<C, NoCondition>) {
      v = f(x, time);
    } else {
      if (samples.size() != held) {
        own = condition_traits<C>::index_select(
            condition, at::tensor(at::ArrayRef<std::int64_t>(samples.data(), samples.size()),
                                  x_0.options().dtype(at::kLong)));
        held = samples.size();
      }
      v = f(x, time, std::as_const(own));
    }
    ode::state_traits<at::Tensor>::own(v, x);
    return (x_0.dim() == 1 ? v.unsqueeze(1) : v).to(start.scalar_type());
  };
  at::Tensor x = start.clone();
  std::vector<at::Tensor> outputs = {start};
  for (std::size_t i = 1; i < times.size(); ++i) outputs.push_back(at::empty_like(start));
  const auto keep = [&](std::size_t i, std::span<const std::int64_t> samples,
                        const at::Tensor& arrived) {
    ode::batch_traits<at::Tensor>::scatter(outputs[i], samples, arrived);
  };
  PerSampleResult result;
  result.statistics = ode::integrate_batch(method, velocity, x, times, options, keep);
  const at::Tensor all = at::stack(outputs);
  result.x = (x_0.dim() == 1 ? all.squeeze(2) : all).to(x_0.scalar_type());
  return result;
}

}}  // namespace flowmatch
