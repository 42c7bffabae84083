#pragma once

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/expand.hpp"
#include "flowmatch/core/parallel_for.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/model/eval_scope.hpp"
#include "flowmatch/model/velocity_model.hpp"
#include "flowmatch/ode/integrate.hpp"
#include "flowmatch/ode/method.hpp"
#include "flowmatch/solve/tensor_state.hpp"

namespace flowmatch { inline namespace v0 {

using TimeGrid = ode::TimeGrid;
using AdaptiveOptions = ode::AdaptiveOptions;

/// What a sampling observer hears after each step.
struct SampleStep {
  double t;              ///< time reached
  const at::Tensor& x;   ///< [b, …] there; the solver goes on with it: clone what you keep
  std::int64_t first;    ///< of these b samples among all
  std::int64_t samples;  ///< all that were asked for
  std::int64_t step;     ///< steps made for these b samples
  std::int64_t steps;    ///< that they take in all; 0 for adaptive methods
};

struct SamplerOptions {
  std::int64_t batch_size = 0;  ///< samples that go through the model together; 0: all
  /// On the CPU: batches side by side, one on each of LibTorch's threads, instead of each operation
  /// on all threads; small networks gain most. A batch_size of 0 then means an equal share for each
  /// thread. The model must bear calls from several threads, as a module in evaluation mode does.
  bool parallel = false;
  /// Above 0: the method goes to 1 - final_step only, and one step of Euler's from there to 1. Near
  /// t = 1 a learned velocity knows x_0 no longer and its error is largest; Euler's step evaluates
  /// it before that, where other methods' stages come to t = 1 (Karras et al. 2022 end Heun's
  /// method so). A TimeGrid has to end at 1 - final_step.
  double final_step = 0;
  std::function<bool(const SampleStep&)> observer{};  ///< returns false to stop; one call at a time
  std::stop_token stop{};                             ///< asked after each step
};

/// Samples and what they took.
struct SampleResult {
  at::Tensor x;  ///< [B, …] at the end, or where sampling was stopped
  ode::Statistics statistics;
};

/// Generates by integrating dx/dt = v(x, t[, condition]) from noise at t = 0 to data at t = 1.
///
/// The model is taken as the trainer takes it, or is any callable: holders and shared_ptr share, an
/// lvalue module is kept by address. A module is sampled in evaluation mode without gradients and
/// gets its own mode back. The model gets t as a tensor [b] (float64 for float64 samples, else
/// float32).
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
  static_assert(
      ode::Stepper<Method, at::Tensor>,
      "flowmatch: a Sampler's second argument is a method, such as ode::Euler{} or ode::Dopri5{}");
  static_assert(!adaptive || ode::ErrorStepper<Method, at::Tensor>,
                "flowmatch: this method has no error estimate to choose steps by; give the Sampler "
                "a TimeGrid");

 public:
  Sampler(Model model, Method method, Plan plan, SamplerOptions options = {})
      : model_(std::move(model)),
        method_(method),
        plan_(std::move(plan)),
        options_(std::move(options)) {
    if (options_.batch_size < 0) {
      throw OptionError("batch_size is " + std::to_string(options_.batch_size) +
                        "; choose at least 1, or 0 for all");
    }
    if (!(options_.final_step >= 0 && options_.final_step < 1)) {
      throw OptionError("final_step is " + number_text(options_.final_step) +
                        "; choose one in [0, 1)");
    }
    if constexpr (adaptive) {
      plan_.validate();
    } else if (options_.final_step > 0 && plan_.t1() != end()) {
      throw OptionError("with a final step of " + number_text(options_.final_step) +
                        " the time grid must end at " + number_text(end()) + ", not " +
                        number_text(plan_.t1()));
    }
  }
  Sampler(Model model, Method method) requires adaptive
      : Sampler(std::move(model), method, AdaptiveOptions{}) {}

  /// Samples of the given shape [B, …] from x_0 ~ N(0, I), drawn all at once. With a condition: one
  /// entry a sample. They lie where the module's parameters lie (for other callables: where rng
  /// is), in the parameters' dtype.
  template <Condition C = NoCondition>
  at::Tensor sample(at::IntArrayRef shape, Rng& rng, const C& condition = C{}) {
    c10::Device device = rng.device();
    at::ScalarType dtype = at::kFloat;
    if constexpr (ModuleHandle<Model>) {
      const std::vector<at::Tensor> parameters = module_of(model_).parameters();
      if (!parameters.empty()) {
        device = parameters.front().device();
        dtype = parameters.front().scalar_type();
      }
    }
    for (const std::int64_t n : shape) {
      if (n < 0)
        throw ShapeError("a shape of samples holds " + std::to_string(n) +
                         "; choose sizes of at least 0");
    }
    return sample_from(rng.normal(shape, dtype).to(device), condition);
  }

  /// Samples from given starts x_0 [B, …], which stay as they are.
  template <Condition C = NoCondition>
  at::Tensor sample_from(const at::Tensor& x_0, const C& condition = C{}) {
    return solve(x_0, condition).x;
  }

  /// The same, with the evaluations and steps that it took (summed over batches).
  template <Condition C = NoCondition>
  SampleResult solve(const at::Tensor& x_0, const C& condition = C{}) {
    std::vector<Part> parts = run(x_0, condition, /*keep_points=*/false);
    SampleResult result;
    std::vector<at::Tensor> ends;
    for (Part& part : parts) {
      ends.push_back(std::move(part.x));
      result.statistics += part.statistics;
    }
    result.x = ends.size() == 1 ? ends.front() : at::cat(ends);
    return result;
  }

  /// x after every step, x_0 included: [steps + 1, B, …]. Adaptive methods have as many steps as
  /// they need, so there all samples must go as one batch. Where sampling was stopped, it ends
  /// with the last step made, and samples that had not come so far stay as they were.
  template <Condition C = NoCondition>
  at::Tensor trajectory(const at::Tensor& x_0, const C& condition = C{}) {
    check_start(x_0);
    if (adaptive && batch_size(x_0.size(0)) < x_0.size(0)) {
      throw OptionError(
          "an adaptive method steps each batch differently; set batch_size to 0 and parallel to "
          "false for a trajectory");
    }
    const std::vector<Part> parts = run(x_0, condition, /*keep_points=*/true);
    std::size_t length = 0;
    for (const Part& part : parts) length = std::max(length, part.points.size());
    std::vector<at::Tensor> paths;
    for (const Part& part : parts) {
      std::vector<at::Tensor> points = part.points;
      points.resize(length, points.back());
      paths.push_back(at::stack(points));
    }
    return at::cat(paths, 1);
  }

 private:
  /// What became of one batch.
  struct Part {
    at::Tensor x;
    ode::Statistics statistics;
    std::vector<at::Tensor> points{};  // x_0 and x after each step, if they are asked for
  };

  /// Integrates batch by batch, or the batches side by side.
  template <class C>
  std::vector<Part> run(const at::Tensor& x_0, const C& condition, bool keep_points) {
    static_assert(VelocityModel<Model, C>,
                  "flowmatch: this model cannot be called as forward(x, t) or, with a condition, "
                  "forward(x, t, "
                  "condition), giving a tensor; see model/velocity_model.hpp");
    check_start(x_0);
    check_condition_size(condition, x_0.size(0));
    const at::NoGradGuard no_grad;
    std::optional<EvalScope> eval;
    if constexpr (ModuleHandle<Model>) eval.emplace(module_of(model_));

    const std::int64_t samples = x_0.size(0);
    const std::int64_t size = batch_size(samples);
    std::vector<Part> parts(
        static_cast<std::size_t>(std::max<std::int64_t>((samples + size - 1) / size, 1)));
    std::mutex observing;
    std::atomic<bool> stopped = false;
    const auto solve_part = [&](std::int64_t i) {
      Part& part = parts[static_cast<std::size_t>(i)];
      const std::int64_t first = i * size;
      const std::int64_t last = std::min(first + size, samples);
      part.x = x_0.slice(0, first, last).clone();
      if (keep_points) part.points.push_back(part.x.clone());
      // Once stopped, what is left comes back as it started, so that rows stay where they belong.
      if (stopped) return;
      const C own =
          parts.size() == 1
              ? condition
              : condition_traits<C>::index_select(
                    condition,
                    at::arange(first, last, at::TensorOptions(at::kLong).device(x_0.device())));
      std::int64_t step = 0;
      part.statistics = integrate(part.x, own, [&](double t, const at::Tensor& now) {
        if (keep_points) part.points.push_back(now.clone());
        ++step;
        if (options_.observer) {
          const std::lock_guard lock(observing);
          if (!options_.observer({t, now, first, samples, step, steps()})) stopped = true;
        }
        if (options_.stop.stop_requested()) stopped = true;
        return !stopped;
      });
    };
    const auto count = static_cast<std::int64_t>(parts.size());
    if (options_.parallel) {
      parallel_for(count, solve_part);
    } else {
      for (std::int64_t i = 0; i < count; ++i) solve_part(i);
    }
    return parts;
  }

  template <class C, class Observer>
  ode::Statistics integrate(at::Tensor& x, const C& condition, Observer observer) {
    at::Tensor time = at::empty({x.size(0)}, x.options().dtype(time_dtype(x)));
    const auto velocity = [&](const at::Tensor& at_x, double t) {
      time.fill_(t);
      return call_model(model_, at_x, time, condition);
    };
    ode::Statistics statistics;
    if constexpr (adaptive) {
      statistics = ode::integrate(method_, velocity, x, 0, end(), plan_, observer);
    } else {
      statistics = ode::integrate(method_, velocity, x, plan_, observer);
    }
    if (options_.final_step > 0 && statistics.status == ode::Status::finished) {
      statistics +=
          ode::integrate(ode::Euler{}, velocity, x, TimeGrid::nodes({end(), 1}), observer);
    }
    return statistics;
  }

  /// Where the method's own steps end.
  double end() const { return 1 - options_.final_step; }

  /// How many samples go through the model together.
  std::int64_t batch_size(std::int64_t samples) const {
    if (options_.batch_size > 0) return options_.batch_size;
    const std::int64_t batches = options_.parallel ? at::get_num_threads() : 1;
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
      return static_cast<std::int64_t>(plan_.steps().size()) + (options_.final_step > 0 ? 1 : 0);
    }
  }

  Model model_;
  Method method_;
  Plan plan_;
  SamplerOptions options_;
};

template <class M, class Method>
Sampler(M&&, Method) -> Sampler<model_storage_t<M>, Method, AdaptiveOptions>;
template <class M, class Method, class Plan>
Sampler(M&&, Method, Plan) -> Sampler<model_storage_t<M>, Method, Plan>;
template <class M, class Method, class Plan>
Sampler(M&&, Method, Plan, SamplerOptions) -> Sampler<model_storage_t<M>, Method, Plan>;

}}  // namespace flowmatch
