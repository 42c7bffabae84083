#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "flowmatch/core/device_memory.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/parallel_for.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/core/slice.hpp"
#include "flowmatch/model/eval_scope.hpp"
#include "flowmatch/model/modules_in.hpp"
#include "flowmatch/model/velocity_model.hpp"
#include "flowmatch/ode/integrate.hpp"
#include "flowmatch/ode/runge_kutta.hpp"
#include "flowmatch/sample/fresh_noise.hpp"
#include "flowmatch/sample/options.hpp"
#include "flowmatch/sample/solved_batch.hpp"
#include "flowmatch/sample/velocity_field.hpp"
#include "flowmatch/solve/tensor_state.hpp"

namespace flowmatch { inline namespace v0 {

/// Generates by integrating dx/dt = v(x, t[, condition]) from noise at t = 0 to data at t = 1.
///
/// The model is taken as the trainer takes it, or is any callable: holders and pointers share, an
/// lvalue module is kept by address. Modules, also those in adapters (see for_each_module), are
/// sampled in evaluation mode without gradients and get their own mode back.
///
/// Samples are float32, or float64 where the start or the network is, whatever the network's
/// precision: in half precision small steps would be rounded away. A network gets x in its own
/// dtype; a callable of unknown dtype gets it in the start's. t is a tensor [b], float64 for
/// float64 networks, else float32.
///
/// A method that draws fresh noise (an ode::StochasticStepper, such as DpmSolver<2>{}) gets it by
/// way of the Rng given to `sample`, `sample_from`, `solve` or `trajectory`: a sample depends on
/// that, its start and its place among all, not on batch size, threads, how many come after it or
/// what was drawn by others before.
///
/// `Sampler(net, ode::Euler{}, TimeGrid::uniform(100))` makes fixed steps; `Sampler(net,
/// ode::Dopri5{})` and `Sampler(net, ode::Dopri5{}, AdaptiveOptions{…})` choose them by tolerance.
/// Fixed-step results do not depend on batch_size beyond rounding. A module in evaluation mode may
/// be sampled from several threads, with a Sampler each. Throws OptionError for options out of
/// range, ShapeError for conditions that do not fit, SolverError (see ode).
template <class Model, class Method, class Plan>
class Sampler {
  static constexpr bool adaptive = std::is_same_v<Plan, AdaptiveOptions>;
  static_assert(adaptive || std::is_same_v<Plan, TimeGrid>,
                "flowmatch: a Sampler's third argument is a TimeGrid or AdaptiveOptions");
  static constexpr bool stochastic = ode::StochasticStepper<Method, at::Tensor>;
  // Towards a singular end the stages of other methods come too near to it.
  static constexpr bool ends_by_euler = singular_at_end<Model> && !stochastic && Method::order > 1;
  static_assert(
      ode::Stepper<Method, at::Tensor> || stochastic,
      "flowmatch: a Sampler's second argument is a method, such as ode::Euler{} or ode::Dopri5{}");
  static_assert(
      detail::paths_agree<Model, Method>,
      "flowmatch: this method's steps are right along the straight path, and the model is a "
      "velocity of another one; give Rescheduled(model, its scheduler, CondOTScheduler{})");
  static_assert(!adaptive || ode::ErrorStepper<Method, at::Tensor>,
                "flowmatch: this method has no error estimate to choose steps by; give the Sampler "
                "a TimeGrid");

 public:
  /// Of its parts. Throws OptionError for a grid, tolerance or option out of range.
  Sampler(Model model, Method method, Plan plan, SamplerOptions options = {})
      : model_(std::move(model)),
        method_(method),
        plan_(std::move(plan)),
        options_(std::move(options)) {
    if (options_.batch_size < 0) {
      throw OptionError("batch_size is " + std::to_string(options_.batch_size) +
                        "; choose at least 1, or 0 for all");
    }
    const double last = options_.final_step;
    if (!(last == 0 || (last > 0 && last < 1 && 1 - last < 1)))
      throw OptionError("final_step is " + number_text(last) + "; choose one in [0, 1)");
    if constexpr (adaptive) {
      plan_.validate();
      if (last > 0 || ends_by_euler) euler_from_ = 1 - (last > 0 ? last : 0.02);
    } else if (last > 0) {
      if (!ode::detail::same_time(plan_.t1(), 1 - last, 0, 1)) {
        throw OptionError("with a final step of " + number_text(last) +
                          " the time grid must end at " + number_text(1 - last) + ", not " +
                          number_text(plan_.t1()));
      }
      euler_from_ = plan_.t1();
    } else if (ends_by_euler && plan_.contiguous() && 1 - plan_.t1() < plan_.steps().back().dt) {
      euler_from_ = plan_.steps().back().t;
      end_ = std::min(plan_.t1(), 1.0);
      if (plan_.steps().size() > 1) plan_ = plan_.without_last();
    }
  }
  /// With the default tolerances.
  Sampler(Model model, Method method) requires adaptive
      : Sampler(std::move(model), method, AdaptiveOptions{}) {}
  /// Samples of the given shape [B, …] from x_0 ~ N(0, I), or the options' source, drawn all at
  /// once. With a condition: one entry a sample. They lie where the model's modules lie (for other
  /// callables: where rng is).
  template <Condition C = NoCondition>
  at::Tensor sample(at::IntArrayRef shape, Rng& rng, const C& condition = C{}) {
    const std::optional<Placement> placement = placement_of(model_);
    for (const std::int64_t n : shape) {
      if (n < 0)
        throw ShapeError("a shape of samples holds " + std::to_string(n) +
                         "; choose sizes of at least 0");
    }
    const at::Tensor x_0 = options_.source
                               ? options_.source(shape, rng)
                               : rng.normal(shape, detail::double_or(placement, at::kFloat));
    if (!x_0.defined() || x_0.sizes() != shape) {
      throw ShapeError("the source gave x_0 of shape " + shape_text(x_0) +
                       "; it has to be of the shape that it is asked for");
    }
    return sample_from(placement ? x_0.to(placement->device) : x_0, rng, condition);
  }

  /// @{ Samples from given starts x_0 [B, …], which stay as they are. Methods that draw fresh noise
  /// need an Rng, here and below; with others it may be left out, and is not used.
  template <Condition C = NoCondition>
  at::Tensor sample_from(const at::Tensor& x_0, Rng& rng, const C& condition = C{}) {
    return detail::whole(solve(x_0, rng, condition));
  }
  template <Condition C = NoCondition>
  at::Tensor sample_from(const at::Tensor& x_0, const C& condition = C{}) {
    return detail::whole(solve(x_0, condition));
  }
  /// @}
  /// @{ The same, with the evaluations and steps that it took (summed over batches).
  template <Condition C = NoCondition>
  SampleResult solve(const at::Tensor& x_0, Rng& rng, const C& condition = C{}) {
    return detail::joined(run(x_0, &rng, condition, /*keep_points=*/false));
  }
  template <Condition C = NoCondition>
  SampleResult solve(const at::Tensor& x_0, const C& condition = C{}) {
    return detail::joined(run(x_0, without_rng(), condition, /*keep_points=*/false));
  }
  /// @}
  /// @{ x after every step, x_0 included: [steps + 1, B, …]. Adaptive methods have as many steps as
  /// they need, so there all samples must go as one batch. Where sampling was stopped, it ends
  /// with the last step made, and samples that had not come so far stay as they were.
  template <Condition C = NoCondition>
  at::Tensor trajectory(const at::Tensor& x_0, Rng& rng, const C& condition = C{}) {
    return points(x_0, &rng, condition);
  }
  template <Condition C = NoCondition>
  at::Tensor trajectory(const at::Tensor& x_0, const C& condition = C{}) {
    return points(x_0, without_rng(), condition);
  }
  /// @}
 private:
  /// What calls without an Rng have: none. A template, so that it is checked where it is used.
  template <class M = Method>
  static Rng* without_rng() {
    static_assert(!ode::StochasticStepper<M, at::Tensor>,
                  "flowmatch: this method draws fresh noise; give sample_from, solve or trajectory "
                  "an Rng behind x_0");
    return nullptr;
  }

  template <class C>
  at::Tensor points(const at::Tensor& x_0, Rng* rng, const C& condition) {
    check_start(x_0);
    if (adaptive && batch_size(x_0.size(0)) < x_0.size(0)) {
      throw OptionError(
          "an adaptive method steps each batch differently; set batch_size to 0 and parallel to "
          "false for a trajectory");
    }
    return detail::joined_points(run(x_0, rng, condition, /*keep_points=*/true));
  }

  /// Integrates batch by batch, or the batches side by side.
  template <class C>
  std::vector<detail::SolvedBatch> run(const at::Tensor& x_0, Rng* rng, const C& condition,
                                       bool keep_points) {
    static_assert(VelocityModel<Model, C>,
                  "flowmatch: this model cannot be called as forward(x, t) or, with a condition, "
                  "forward(x, t, "
                  "condition), giving a tensor; see model/velocity_model.hpp");
    check_start(x_0);
    check_condition_size(condition, x_0.size(0));
    const at::NoGradGuard no_grad;
    const EvalScope eval(model_);
    const std::optional<Placement> placement = placement_of(model_);
    const at::ScalarType dtype = detail::double_or(placement, state_dtype(x_0));
    const at::ScalarType asked = placement ? dtype : x_0.scalar_type();
    std::optional<Rng> fresh;  // of all batches
    if constexpr (stochastic) fresh.emplace(rng->split().seed(), x_0.device());

    const std::int64_t samples = x_0.size(0), threads = at::get_num_threads();
    std::int64_t size = batch_size(samples);
    std::int64_t worth = 1;  // parts of an evaluation
    if constexpr (ModuleHandle<Model>) {
      if (!options_.parallel)
        worth = detail::evaluation_parts(model_, std::min(size, samples), threads);
      if (worth > 1 && !detail::evaluates_in_parts(model_, x_0.to(dtype), condition, asked))
        worth = 1;
    }
    const std::int64_t divided = divisible() ? worth : 1;
    const std::int64_t of_evaluation = worth > divided ? threads : 1;
    // OpenMP's threads would spin after each operation, in the time of those of the parts.
    const OneThread each_operation(worth > 1);
    if (divided > 1) size = (samples + divided - 1) / divided;
    std::vector<detail::SolvedBatch> parts(
        static_cast<std::size_t>(std::max<std::int64_t>((samples + size - 1) / size, 1)));
    std::mutex observing;
    std::atomic<bool> stopped = false;
    std::vector<Model*> models(parts.size(), &model_);
    const auto solve_part = [&](std::int64_t i) {
      const auto place = static_cast<std::size_t>(i);
      detail::SolvedBatch& part = parts[place] = {};
      const std::int64_t first = i * size;
      const std::int64_t last = std::min(first + size, samples);
      part.x = x_0.slice(0, first, last).to(dtype, false, /*copy=*/true);
      if (keep_points) part.points.push_back(part.x);
      // Once stopped, what is left comes back as it started, so that rows stay where they belong.
      if (stopped) return;
      const C own =
          parts.size() == 1 ? condition : slice_condition(condition, first, last, x_0.device());
      std::int64_t step = 0;
      const auto observe = [&](double t, const at::Tensor& now) {
        if (keep_points) part.points.push_back(now);
        ++step;
        if (options_.observer) {
          const std::lock_guard lock(observing);
          if (!options_.observer({t, now, first, samples, step, steps()})) stopped = true;
        }
        if (options_.stop.stop_requested()) stopped = true;
        return !stopped;
      };
      with_memory_for(
          std::to_string(last - first) + " samples at a time; set SamplerOptions::batch_size lower",
          [&] {
            if constexpr (stochastic) {
              part.statistics = solve(*models[place], of_evaluation, part.x, own, asked, observe,
                                      FreshNoise(*fresh, first));
            } else {
              part.statistics = solve(*models[place], of_evaluation, part.x, own, asked, observe);
            }
          });
    };
    const auto count = static_cast<std::int64_t>(parts.size());
    if (options_.parallel.value_or(false)) {
      parallel_for(count, solve_part);
    } else if (divided > 1) {
      if constexpr (ModuleHandle<Model>) {
        std::vector<detail::SideBySide<Model>> copies;
        while (copies.size() < parts.size()) copies.emplace_back(model_);
        for (std::size_t i = 0; i < parts.size(); ++i) models[i] = &copies[i](model_);
        ThreadTeam team(divided);
        team(count, solve_part);
      }
      // They made the same steps: as one batch, which is what was asked for.
      for (std::size_t i = 1; i < parts.size(); ++i)
        parts[i].statistics = {.status = parts[i].statistics.status};
    } else {
      for (std::int64_t i = 0; i < count; ++i) solve_part(i);
    }
    return parts;
  }

  template <class C, class Observer, class... Noise>
  ode::Statistics solve(Model& model, std::int64_t threads, at::Tensor& x, const C& condition,
                        at::ScalarType asked, const Observer& observer, Noise&&... noise) {
    if constexpr (ModuleHandle<Model>) {
      const std::int64_t parts = detail::evaluation_parts(model, x.size(0), threads);
      if (parts > 1) {
        detail::VelocityInParts<Model, C> velocity(model, condition, asked, x.size(0), parts);
        return integrate(velocity, x, observer, noise...);
      }
    }
    detail::VelocityField<Model, C> velocity(model, condition, asked);
    return integrate(velocity, x, observer, noise...);
  }

  template <class Velocity, class Observer, class... Noise>
  ode::Statistics integrate(Velocity& velocity, at::Tensor& x, const Observer& observer,
                            Noise&... noise) {
    ode::Statistics statistics;
    if constexpr (adaptive) {
      statistics =
          ode::integrate(method_, velocity, x, 0, euler_from_.value_or(1), plan_, observer);
    } else if (euler_from_ != plan_.t0()) {  // else the only step is Euler's
      statistics = ode::integrate(method_, velocity, x, plan_, noise..., observer);
    }
    if (euler_from_ && statistics.status == ode::Status::finished) {
      statistics += ode::integrate(ode::Euler{}, velocity, x, TimeGrid::nodes({*euler_from_, end_}),
                                   observer);
    }
    return statistics;
  }

  /// Whether parts of a batch make the same steps, and nobody hears of them: side by side from
  /// start to end, they wait for one another once only.
  bool divisible() const {
    const bool heard = options_.observer || options_.stop.stop_possible();
    return !adaptive && !heard && options_.batch_size == 0;
  }

  /// How many samples go through the model together.
  std::int64_t batch_size(std::int64_t samples) const {
    if (options_.batch_size > 0) return options_.batch_size;
    const std::int64_t batches = options_.parallel.value_or(false) ? at::get_num_threads() : 1;
    return std::max<std::int64_t>((samples + batches - 1) / batches, 1);
  }

  static void check_start(const at::Tensor& x_0) {
    if (!x_0.defined() || x_0.dim() == 0 || !x_0.is_floating_point()) {
      throw ShapeError("samples start from a floating tensor x_0 [B, …]; got " + shape_text(x_0));
    }
  }

  std::int64_t steps() const {
    if constexpr (adaptive) {
      return 0;
    } else {
      const bool own = euler_from_ != plan_.t0();
      return (own ? static_cast<std::int64_t>(plan_.steps().size()) : 0) + (euler_from_ ? 1 : 0);
    }
  }

  Model model_;
  Method method_;
  Plan plan_;
  SamplerOptions options_;
  std::optional<double> euler_from_{};  // where the method's own steps end and Euler's begins
  double end_ = 1;                      // where that one ends
};

template <class M, class Method>
Sampler(M&&, Method) -> Sampler<model_storage_t<M>, Method, AdaptiveOptions>;
template <class M, class Method, class Plan>
Sampler(M&&, Method, Plan) -> Sampler<model_storage_t<M>, Method, Plan>;
template <class M, class Method, class Plan>
Sampler(M&&, Method, Plan, SamplerOptions) -> Sampler<model_storage_t<M>, Method, Plan>;

}}  // namespace flowmatch
