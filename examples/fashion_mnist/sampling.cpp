#include "examples/fashion_mnist/sampling.hpp"

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "examples/fashion_mnist/ddim.hpp"
#include "examples/fashion_mnist/guidance.hpp"
#include "examples/fashion_mnist/run_folder.hpp"
#include "flowmatch/checkpoint/checkpoint.hpp"
#include "flowmatch/model/adapters.hpp"
#include "flowmatch/model/channels_last.hpp"
#include "flowmatch/model/eval_scope.hpp"
#include "flowmatch/model/flow_map.hpp"
#include "flowmatch/model/rescheduled.hpp"
#include "flowmatch/sample/ancestral_euler.hpp"
#include "flowmatch/sample/dpm_solver.hpp"
#include "flowmatch/sample/flow_map_step.hpp"
#include "flowmatch/sample/method.hpp"
#include "flowmatch/sample/noise_levels.hpp"
#include "flowmatch/sample/renoise.hpp"
#include "flowmatch/sample/sampler.hpp"

namespace fashion_mnist {

namespace {

/// Without the critic beside it.
fm::StateDict generator_in(const fm::StateDict& pair) {
  const std::string prefix = "generator.";
  fm::StateDict generator;
  for (const auto& entry : pair)
    if (entry.key().starts_with(prefix))
      generator.insert(entry.key().substr(prefix.size()), entry.value());
  return generator;
}

}  // namespace

TrainedModel load_model(const std::filesystem::path& path, std::optional<bool> averaged,
                        c10::Device device) {
  std::optional<fm::Checkpoint> found;
  if (std::filesystem::exists(path / "manifest.txt")) {
    found = fm::open_checkpoint(path);
  } else {
    found = fm::latest_checkpoint(path / end_name);
    if (!found) found = fm::latest_checkpoint(path);
  }
  if (!found) {
    throw fm::CheckpointError("there is no checkpoint in " + path.string() +
                              "; give the --out folder of a training run");
  }
  const bool has_average = found->manifest.contains("file.ema.pt");
  if (averaged == true && !has_average) {
    throw fm::OptionError(
        "this run kept no averaged weights; give --weights raw, or train with --ema 0.999");
  }
  TrainedModel model{Recipe::from(found->manifest), {}};
  model.net = UNet(model.recipe.net);
  fm::StateDict state =
      fm::read_state_dict(found->path / (averaged.value_or(has_average) ? "ema.pt" : "model.pt"));
  if (found->manifest.contains("note." + std::string(holds_pair_note))) state = generator_in(state);
  fm::load_state_dict(*model.net, state);
  fm::to_channels_last(*model.net);
  model.net->to(device);
  model.net->eval();
  return model;
}

TrainedModel load_alike(const std::filesystem::path& path, const Pixels& pixels,
                        c10::Device device) {
  TrainedModel model = load_model(path, std::nullopt, device);
  if (model.recipe.pixels != pixels) {
    throw fm::OptionError(path.string() +
                          " is of pictures of another size or range; choose a run of the same, or "
                          "train with the same --size and --range");
  }
  return model;
}

Pair load_pair(const std::filesystem::path& flow, const std::filesystem::path& ddim,
               c10::Device device) {
  Pair pair{load_model(flow, std::nullopt, device), load_model(ddim, std::nullopt, device)};
  if (pair.flow.recipe.method != "flow" || pair.ddim.recipe.method != "ddim" ||
      pair.flow.recipe.net != pair.ddim.recipe.net) {
    throw fm::OptionError(
        "--flow needs a run of --method flow and --ddim one of --method ddim, both of the same "
        "network");
  }
  return pair;
}

at::Tensor starts(const Recipe& recipe, std::int64_t n, fm::Rng& rng) {
  at::Tensor x_0 = rng.normal({n, 1, recipe.pixels.size, recipe.pixels.size});
  return recipe.source == "blank" ? at::full_like(x_0, recipe.pixels.range) : x_0;
}

namespace {

/// DDIM in batches, each with noise of its own.
Samples sample_ddim(TrainedModel& model, const at::Tensor& x_0, const at::Tensor& labels,
                    const SamplingOptions& o) {
  const at::NoGradGuard no_grad;
  const fm::EvalScope eval(*model.net);
  const std::int64_t n = x_0.size(0);
  const std::int64_t batches = (n + o.batch - 1) / o.batch;
  std::vector<at::Tensor> parts;
  bool stopped = false;
  for (std::int64_t i = 0; i < batches && !stopped; ++i) {
    const std::int64_t first = i * o.batch;
    const std::int64_t last = std::min(first + o.batch, n);
    fm::Rng rng = fm::Rng(o.seed).fork("ddim", static_cast<std::uint64_t>(i));
    DdimOptions ddim{o.steps, o.eta, model.recipe.pixels.range, o.solver != "ddim_fair", {}};
    ddim.observer = [&](std::int64_t step, const at::Tensor& x) {
      stopped = o.observer && !o.observer(x, i * o.steps + step, batches * o.steps);
      return !stopped;
    };
    parts.push_back(
        ddim_sample(model.net, x_0.slice(0, first, last), labels.slice(0, first, last), rng, ddim));
  }
  return {model.recipe.pixels.to_images(at::cat(parts)).cpu(), o.steps};
}

}  // namespace

namespace {

/// The steps before the last one of Euler's, from `begin` on.
fm::TimeGrid grid_of(const SamplingOptions& o, double begin) {
  const double end = 1 - o.last_step;
  if (o.grid == "uniform") return fm::TimeGrid::shifted(o.steps, o.shift, begin, end);
  if (o.grid == "post") return fm::TimeGrid::post(o.steps);
  const auto levels = [&](auto schedule) {
    if (o.last_step == 0) return schedule(o.steps, 0.001, 1 - begin).grid();
    return schedule(o.steps + 1, o.last_step, 1 - begin).grid().without_last();
  };
  using Levels = fm::NoiseLevels;
  if (o.grid == "karras") return levels([](auto... a) { return Levels::karras(a...); });
  if (o.grid == "exponential") return levels([](auto... a) { return Levels::exponential(a...); });
  if (o.grid == "beta") return levels([](auto... a) { return Levels::beta(a...); });
  throw fm::OptionError("there is no grid '" + o.grid +
                        "'; choose uniform, post, karras, exponential or beta");
}

}  // namespace

Velocity velocity_of(TrainedModel& model) {
  if (model.recipe.method == "ddim")
    return fm::Rescheduled(fm::VelocityFromEpsilon(model.net, fm::CosineScheduler{}),
                           fm::CosineScheduler{}, fm::CondOTScheduler{});
  if (model.recipe.target == "difference") {
    return
        [net = model.net](const at::Tensor& x, const at::Tensor& t, const at::Tensor& c) mutable {
          return net->forward(x, t, c) / difference_step;
        };
  }
  return [net = model.net](const at::Tensor& x, const at::Tensor& t, const at::Tensor& c) mutable {
    return net->forward(x, t, c);
  };
}

std::string solver_of(const Recipe& recipe) {
  if (recipe.method == "ddim") return "ddim";
  if (recipe.method == "mean_flow") return std::string(fm::FlowMapStep::name);
  return "euler";
}

Samples sample_images(TrainedModel& model, const at::Tensor& x_0, const at::Tensor& labels,
                      SamplingOptions o) {
  if (o.batch < 1)
    throw fm::OptionError("--batch is " + std::to_string(o.batch) + "; choose at least 1");
  if (o.solver.empty()) o.solver = solver_of(model.recipe);
  const bool mean_flow = model.recipe.method == "mean_flow";
  const bool by_map = o.solver == fm::FlowMapStep::name;
  if (by_map && !mean_flow) {
    throw fm::OptionError("--solver flow_map is for runs of --method mean_flow; this one is of " +
                          model.recipe.method);
  }
  const bool to_the_data = mean_flow && o.solver == fm::Renoise::name;
  if (o.guidance && (by_map || to_the_data || o.solver.starts_with("ddim"))) {
    throw fm::OptionError("--guidance leads velocities, which --solver " + o.solver +
                          " does not ask for; choose another, such as euler");
  }
  if (o.solver == "ddim" || o.solver == "ddim_fair") {
    if (model.recipe.method != "ddim") {
      throw fm::OptionError("--solver " + o.solver +
                            " is for runs of --method ddim; this one is of " + model.recipe.method);
    }
    if (o.grid != "uniform" || o.shift != 1 || o.last_step != 0)
      throw fm::OptionError("--grid, --shift and --last-step are for flows, not DDIM's steps");
    return sample_ddim(model, x_0, labels, o);
  }
  if (o.grid != "uniform" && o.shift != 1)
    throw fm::OptionError("--shift is for --grid uniform; " + o.grid + " is as it is");
  const std::int64_t batches = (x_0.size(0) + o.batch - 1) / o.batch;
  const std::int64_t n = x_0.size(0);
  fm::SamplerOptions options;
  options.batch_size = o.batch;
  options.final_step = o.last_step;
  options.observer = [&](const fm::SampleStep& s) {
    return !o.observer || o.observer(s.x, s.first / o.batch * s.steps + s.step, batches * s.steps);
  };
  const fm::EvalScope eval(*model.net);
  std::int64_t rows = 0;  // that the network has seen
  const auto average = [&](const at::Tensor& x, const at::Tensor& t, const at::Tensor& r,
                           const at::Tensor& c) {
    rows += x.size(0);
    return model.net->forward(x, t, r, c);
  };
  const auto counted = [&rows](Velocity v) -> Velocity {
    return
        [&rows, v = std::move(v)](const at::Tensor& x, const at::Tensor& t, const at::Tensor& c) {
          rows += x.size(0);
          return v(x, t, c);
        };
  };
  Velocity velocity = counted(velocity_of(model));
  if (to_the_data) {
    velocity = [&](const at::Tensor& x, const at::Tensor& t, const at::Tensor& c) {
      return average(x, t, at::ones_like(t), c);
    };
  }
  if (o.guidance) {
    std::optional<Velocity> worse;
    if (o.worse) worse = counted(velocity_of(*o.worse));
    velocity = guided(std::move(velocity), model.recipe, std::move(worse), *o.guidance);
  }
  const auto run_model = [&](auto& sampled, auto method, auto plan) {
    fm::Rng fresh(o.seed, x_0.device());
    const fm::SampleResult result =
        fm::Sampler(sampled, method, plan, options).solve(x_0, fresh, labels);
    return Samples{model.recipe.pixels.to_images(result.x).cpu(), rows / n};
  };
  const auto run = [&](auto method, auto plan) { return run_model(velocity, method, plan); };
  // Where DDIM's network begins to see data.
  const double begin = model.recipe.method == "ddim" ? 0.01 : 0;
  const auto grid = [&] { return grid_of(o, begin); };
  if (by_map) {
    fm::FlowMap map(average);
    return run_model(map, fm::FlowMapStep{}, grid());
  }
  if (o.solver == fm::DpmSolver<1>::name) return run(fm::DpmSolver<1>(o.eta), grid());
  if (o.solver == fm::DpmSolver<2>::name) return run(fm::DpmSolver<2>(o.eta), grid());
  if (o.solver == fm::DpmSolver<3>::name) return run(fm::DpmSolver<3>(o.eta), grid());
  if (o.solver == fm::AncestralEuler::name) return run(fm::AncestralEuler(o.eta), grid());
  return fm::with_method(o.solver, [&](auto method) {
    if constexpr (fm::ode::ErrorStepper<decltype(method), at::Tensor>) {
      if (o.grid != "uniform" || o.shift != 1) {
        throw fm::OptionError("--grid and --shift are for fixed steps; " + o.solver +
                              " chooses its own");
      }
      return run(method, fm::AdaptiveOptions{.rtol = o.rtol, .atol = o.atol});
    } else {
      return run(method, grid());
    }
  });
}

}  // namespace fashion_mnist
