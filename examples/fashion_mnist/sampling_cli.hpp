#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "examples/fashion_mnist/sampling.hpp"
#include "flowmatch/core/error.hpp"

namespace fashion_mnist {

/// The options of programs that sample from a run.
struct SamplingCli {
  std::string weights = "auto";
  SamplingOptions sampling;
  std::optional<double> scale;  ///< of guidance
  std::string rule = "plain";
  std::filesystem::path worse;
  std::vector<double> interval = {0, 1};

  void add_to(CLI::App& app) {
    app.add_option(
        "--solver", sampling.solver,
        "euler, midpoint, heun2, heun3, rk4, rk4_classic, explicit_adams, implicit_adams, "
        "dpm_solver_2s, unipc_2, unipc_3; with fresh noise dpm_solver_1 to 3, ancestral_euler, "
        "euler_maruyama, sde_heun; for mean flows flow_map, or renoise with fresh noise; "
        "adaptive: adaptive_heun, fehlberg2, bosh3, tsit5, dopri5, dopri8; for DDIM runs "
        "ddim (the notebook's) or ddim_fair");
    app.add_option("--steps", sampling.steps, "steps of the fixed-step methods and of DDIM");
    app.add_option("--rtol", sampling.rtol, "relative tolerance of adaptive methods");
    app.add_option("--atol", sampling.atol, "absolute tolerance of adaptive methods");
    app.add_option("--grid", sampling.grid,
                   "uniform, the blog post's, or karras, exponential, beta: of other libraries")
        ->check(CLI::IsMember({"uniform", "post", "karras", "exponential", "beta"}));
    app.add_option(
        "--shift", sampling.shift,
        "s: fixed steps at s u / (1 + (s - 1) u), u = i/N; above 1 the small ones are at the data");
    app.add_option("--last-step", sampling.last_step,
                   "size of a last step of Euler's, which keeps other methods from t near 1");
    app.add_option("--eta", sampling.eta,
                   "fresh noise of DDIM, dpm_solver_1 to 3 and ancestral_euler, 0 to 1");
    app.add_option("--batch", sampling.batch, "samples that go through the network together");
    app.add_option("--weights", weights, "ema, raw, or auto: ema if the run kept them")
        ->check(CLI::IsMember({"auto", "ema", "raw"}));
    app.add_option("--seed", sampling.seed, "of the noise");
    auto* guided =
        app.add_option("--guidance", scale,
                       "how far samples are led, of runs with --drop-labels to their label, or "
                       "away from --worse; 1 is the run as it is");
    app.add_option("--worse", worse, "a run trained less, or smaller, of the same pictures")
        ->needs(guided);
    app.add_option("--guidance-rule", rule, "plain, zero_star or projected")
        ->check(CLI::IsMember({"plain", "zero_star", "projected"}))
        ->needs(guided);
    app.add_option("--guidance-interval", interval, "A,B: the times of guidance, of 0,1")
        ->delimiter(',')
        ->expected(2)
        ->needs(guided);
  }

  /// Throws OptionError for what is out of range; n is the number of samples.
  void validate(std::int64_t n) {
    if (n < 1 || n > 1000000)
      throw fm::OptionError("--n is " + std::to_string(n) + "; choose 1 to 1000000");
    if (sampling.steps < 1 || sampling.steps > 100000) {
      throw fm::OptionError("--steps is " + std::to_string(sampling.steps) +
                            "; choose 1 to 100000");
    }
    if (!(sampling.eta >= 0 && sampling.eta <= 1)) {
      throw fm::OptionError("--eta is " + std::to_string(sampling.eta) + "; choose 0 to 1");
    }
    if (!(sampling.last_step >= 0 && sampling.last_step < 1)) {
      throw fm::OptionError("--last-step is " + fm::number_text(sampling.last_step) +
                            "; choose one in [0, 1)");
    }
    if (scale) sampling.guidance = {*scale, rule, interval.front(), interval.back()};
  }

  /// Also the worse run. Throws OptionError where its pictures are of another size or range.
  TrainedModel load(const std::filesystem::path& checkpoint, c10::Device device) {
    TrainedModel model = load_model(
        checkpoint, weights == "auto" ? std::nullopt : std::optional(weights == "ema"), device);
    if (!worse.empty()) sampling.worse = load_alike(worse, model.recipe.pixels, device);
    return model;
  }
};

}  // namespace fashion_mnist
