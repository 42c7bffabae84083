// Flow matching on the plane, the quickest way to see it work:
//   toy_2d --out toy_2d.png
// Trains a small network on a checkerboard, two moons and eight Gaussians, and draws data, samples
// and the samples' ways from noise side by side. Prints the energy distance (Székely & Rizzo 2013)
// of the samples to the data; that of two sets of data is 0 but for chance. And the log-likelihood
// of new data, which on average is at most minus their entropy, where that is known.

#include <torch/nn.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <numbers>
#include <optional>
#include <string>
#include <vector>

#include "examples/networks/mlp.hpp"
#include "examples/support/machine.hpp"
#include "examples/support/output_path.hpp"
#include "examples/support/picture.hpp"
#include "examples/support/plane.hpp"
#include "examples/support/run_main.hpp"
#include "examples/support/signals.hpp"
#include "flowmatch/flowmatch.hpp"

namespace fm = flowmatch;

struct Options {
  std::string data = "all";
  std::int64_t steps = 0;  // 0: as many as the distribution takes
  std::int64_t batch = 256;
  std::uint64_t seed = 1;
  bool density = false;
  int threads = 1;  // for tensors as small as these two threads are slower than one
  std::filesystem::path out = "toy_2d.png";
  std::filesystem::path field;
};

/// A distribution on the plane with about the spread of the noise.
struct Distribution {
  std::string name;
  double window;                    ///< pictures show the plane from -window to window
  std::int64_t steps;               ///< of training; sharp edges take more
  std::optional<double> entropy{};  ///< in nats
};

/// The checkerboard's eight squares have sides of 1/0.45, the scaling of flow_matching's examples.
constexpr double square = 1 / 0.45;

const std::vector<Distribution> distributions = {
    {"checkerboard", 2.6 * square, 18000, std::log(8 * square * square)},
    {"moons", 2.6, 6000},
    {"gaussians", 2.6, 6000, std::log(8 * 2 * std::numbers::pi * std::numbers::e * 0.12 * 0.12)}};

/// n points [n, 2] of the distribution of that name.
at::Tensor draw_points(const std::string& name, std::int64_t n, fm::Rng& rng) {
  const at::Tensor u = rng.uniform({n});
  if (name == "checkerboard") {  // every other field of 4 x 4
    const at::Tensor x = rng.uniform({n}) * 4 - 2;
    const at::Tensor y = u + at::floor(rng.uniform({n}) * 2) * 2 - at::floor(x).remainder(2) - 1;
    return square * at::stack({x, y}, 1);
  }
  const at::Tensor noise = rng.normal({n, 2});
  if (name == "moons") {  // two half circles, one upside down
    const at::Tensor lower = rng.uniform({n}) < 0.5;
    const at::Tensor angle = std::numbers::pi * u + std::numbers::pi * lower;
    const at::Tensor x = at::cos(angle) + at::where(lower, 0.5, -0.5);
    const at::Tensor y = at::sin(angle) + at::where(lower, 0.25, -0.25);
    return 1.2 * at::stack({x, y}, 1) + 0.08 * noise;
  }
  const at::Tensor angle = at::floor(8 * u) * (std::numbers::pi / 4);
  return 1.8 * at::stack({at::cos(angle), at::sin(angle)}, 1) + 0.12 * noise;
}

/// v(x, t) for points of the plane, with waves of x and t beside them.
nets::Mlp network() {
  return nets::Mlp(nets::MlpOptions{.x_waves = {1.4F, 2.8F, 5.6F, 11.2F}, .t_waves = {3.1F, 6.3F}});
}

/// E = 2 E|X - Y| - E|X - X'| - E|Y - Y'|, at least 0, and 0 where the distributions are the same.
double energy_distance(const at::Tensor& x, const at::Tensor& y) {
  const auto mean = [](const at::Tensor& a, const at::Tensor& b) {
    return at::cdist(a, b).mean().item<double>();
  };
  return 2 * mean(x, y) - mean(x, x) - mean(y, y);
}

/// log p(x) of the flow's density at points [N, 2], by the exact divergence.
at::Tensor log_density(nets::Mlp& net, const at::Tensor& x) {
  fm::Likelihood likelihood(net, fm::ode::Dopri5{},
                            fm::AdaptiveOptions{.rtol = 1e-4, .atol = 1e-4});
  return likelihood.log_prob(x).log_prob;
}

struct Density {
  support::Picture picture;
  double integral;  ///< over the window, so 1 but for what lies outside
};

/// The density that the flow gives the plane: dark where it is high, white a factor of e^6 below.
Density density(nets::Mlp& net, double window) {
  constexpr std::int64_t size = 160;
  const at::Tensor line = (at::arange(size) + 0.5) / size * 2 * window - window;
  const std::vector<at::Tensor> yx = at::meshgrid({-line, line}, "ij");  // y downwards, as pixels
  const at::Tensor log_p = log_density(net, at::stack({yx[1].flatten(), yx[0].flatten()}, 1));
  const at::Tensor brightness = (log_p.max() - log_p).clamp_max(6) / 3 - 1;
  support::Canvas canvas(2 * size, 2 * size);
  canvas.image(0, 0, brightness.view({1, size, size}), 2);
  const double pixel = 2 * window / size;
  return {canvas.picture(), log_p.exp().sum().item<double>() * pixel * pixel};
}

/// The velocity as arrows over the samples on their way ([T, N, 2], evenly spaced in time), at a
/// few times, and the ways of some samples over the data. Lengths are the same at all times: the
/// fastest tenth reaches the next arrow.
std::vector<support::Captioned> field(const Distribution& distribution, nets::Mlp& net,
                                      const at::Tensor& ways, const at::Tensor& data) {
  const at::NoGradGuard no_grad;
  constexpr std::int64_t columns = 17, size = 256, shown = 1500;
  const double window = distribution.window;
  const double cell = 2 * window / columns;
  const at::Tensor line = (at::arange(columns) + 0.5) * cell - window;
  const std::vector<at::Tensor> xy = at::meshgrid({line, line}, "ij");
  const at::Tensor x = at::stack({xy[0].flatten(), xy[1].flatten()}, 1);
  const std::vector<double> times = {0, 0.3, 0.6, 0.9};
  std::vector<at::Tensor> velocities;
  for (const double t : times) velocities.push_back(net->forward(x, at::full({x.size(0)}, t)));
  const at::Tensor speed = at::cat(velocities).norm(2, 1);
  const double fast = speed.quantile(0.9).item<double>();
  std::vector<support::Captioned> row;
  for (std::size_t i = 0; i < times.size(); ++i) {
    const at::Tensor& v = velocities[i];
    const at::Tensor length = v.norm(2, 1, true).clamp_min(1e-6);
    const at::Tensor arrows = v * (cell / fast) * (fast / length).clamp_max(1);
    const auto at_time = std::llround(times[i] * static_cast<double>(ways.size(0) - 1));
    row.push_back(
        {fmt::format("{}velocity at t = {:.1f}", i == 0 ? distribution.name + ": " : "", times[i]),
         support::Plane(window, size)
             .points(ways[at_time].slice(0, 0, shown), support::orange, 0.35)
             .arrows(x - arrows / 2, arrows, support::blue)
             .picture()});
  }
  row.push_back(
      {"ways of samples over the data", support::Plane(window, size)
                                            .points(data.slice(0, 0, shown), support::orange)
                                            .paths(ways.slice(1, 0, 150), support::blue)
                                            .picture()});
  return row;
}

int run(const Options& o) {
  support::set_up_machine(o.threads);
  if (o.steps < 0 || o.steps > 100000)
    throw fm::OptionError("--steps is " + std::to_string(o.steps) +
                          "; choose 1 to 100000, or 0 for as many as the distribution takes");
  support::check_apart({{"--out", o.out}, {"--field", o.field}});
  support::check_picture_path(o.out);
  if (!o.field.empty()) support::check_picture_path(o.field);
  const support::StopOnSignal signals;
  std::vector<std::vector<support::Captioned>> rows, fields;
  for (const Distribution& distribution : distributions) {
    const std::string& name = distribution.name;
    if (o.data != "all" && o.data != name) continue;
    std::cerr << name << '\n';
    torch::manual_seed(o.seed);
    fm::Rng rng(o.seed);
    nets::Mlp net = network();
    fm::TrainOptions options;
    options.learning_rate = 1e-2;
    options.schedule = fm::cosine_annealing();
    options.ema_decay = 0.999;
    options.seed = o.seed;
    options.stop = signals.token();
    // Edges form near t = 1: more times there.
    fm::Trainer trainer(net, fm::VelocityNoisifier(fm::LinearPath{}, fm::LogitNormalTime(1, 1.2)),
                        options);
    const std::int64_t steps = o.steps > 0 ? o.steps : distribution.steps;
    // Points cost nothing: one epoch of fresh ones.
    const fm::TrainResult result = trainer.fit(
        fm::TensorBatches(draw_points(name, steps * o.batch, rng), o.batch), fm::ProgressBar{});
    if (result.stopped) return support::interrupted;

    const auto averaged = trainer.ema()->swap_in();
    fm::Sampler sampler(net, fm::ode::Midpoint{}, fm::TimeGrid::uniform(50));
    const at::Tensor ways = sampler.trajectory(rng.normal({4000, 2}));  // [51, 4000, 2]
    const at::Tensor samples = ways[-1];
    const at::Tensor data = draw_points(name, 4000, rng);
    std::cout << fmt::format(
                     "{:<12}  loss {:.3f}  energy distance {:.5f} (data to data {:.5f})  "
                     "log-likelihood {:.4f}{}\n",
                     name, result.loss, energy_distance(samples, data),
                     energy_distance(draw_points(name, 4000, rng), data),
                     log_density(net, data).mean().item<double>(),
                     distribution.entropy ? fmt::format(" (at most {:.4f})", -*distribution.entropy)
                                          : "")
              << std::flush;
    const auto plane = [&] { return support::Plane(distribution.window, 320); };
    rows.push_back({{name + ": data", plane().points(data, support::orange).picture()},
                    {"samples", plane().points(samples, support::blue).picture()},
                    {"their ways from noise", plane()
                                                  .paths(ways.slice(1, 0, 300), support::blue)
                                                  .points(samples.slice(0, 0, 300), support::blue)
                                                  .picture()}});
    if (!o.field.empty()) fields.push_back(field(distribution, net, ways, data));
    if (o.density) {
      const Density d = density(net, distribution.window);
      rows.back().push_back({"density", d.picture});
      std::cout << fmt::format("{:<12}  integral of the density {:.4f}\n", name, d.integral)
                << std::flush;
    }
  }
  support::write_png(o.out, support::sheet(rows));
  std::cout << "wrote " << o.out.string() << '\n';
  if (!o.field.empty()) {
    support::write_png(o.field, support::sheet(fields));
    std::cout << "wrote " << o.field.string() << '\n';
  }
  return support::success;
}

int main(int argc, char** argv) {
  CLI::App app("Flow matching on the plane: checkerboard, moons and eight Gaussians", "toy_2d");
  Options o;
  std::vector<std::string> known = {"all"};
  for (const Distribution& distribution : distributions) known.push_back(distribution.name);
  app.add_option("--data", o.data, "checkerboard, moons, gaussians or all")
      ->check(CLI::IsMember(known));
  app.add_option(
      "--steps", o.steps,
      "training steps for each (default: 18000 for the checkerboard, 6000 for the others)");
  app.add_option("--seed", o.seed, "of data, weights, times and noise");
  app.add_flag("--density", o.density, "also draw the density that the flow gives the plane");
  app.add_option("--field", o.field,
                 "FILE.png: also draw the velocity at a few times, and ways over the data");
  app.add_option("--threads", o.threads, "CPU threads; 0 for all cores");
  app.add_option("--out", o.out, "picture to write");
  return support::run_main(app, argc, argv, [&] { return run(o); });
}
