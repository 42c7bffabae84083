// Flow matching in the plane: checkerboard, two moons and eight Gaussians, each learned by a small
// network.
//   toy_2d --out toy_2d.png
// Draws data, samples and trajectories side by side.

#include <CLI/CLI.hpp>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <numbers>
#include <string>
#include <vector>

#include "examples/support/machine.hpp"
#include "examples/support/picture.hpp"
#include "examples/support/progress.hpp"
#include "examples/support/run_main.hpp"
#include "flowmatch/flowmatch.hpp"

namespace fm = flowmatch;

/// v(x, t) for points [B, 2].
struct MlpImpl : torch::nn::Module {
  explicit MlpImpl(std::int64_t width) {
    layers = register_module(
        "layers", torch::nn::Sequential(torch::nn::Linear(3, width), torch::nn::SiLU(),
                                        torch::nn::Linear(width, width), torch::nn::SiLU(),
                                        torch::nn::Linear(width, width), torch::nn::SiLU(),
                                        torch::nn::Linear(width, width), torch::nn::SiLU(),
                                        torch::nn::Linear(width, 2)));
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t) {
    return layers->forward(at::cat({x, t.unsqueeze(1)}, 1));
  }
  torch::nn::Sequential layers{nullptr};
};
TORCH_MODULE(Mlp);

/// n points [n, 2], about two units across. Throws OptionError for a name that is none of the
/// three.
at::Tensor make_data(const std::string& name, std::int64_t n, fm::Rng& rng) {
  if (name == "checkerboard") {
    // A column of four, then one of its two black squares.
    const at::Tensor x = rng.uniform({n}) * 4;
    const at::Tensor y = rng.uniform({n}) + 2 * rng.uniform({n}).ge(0.5) + x.floor().remainder(2);
    return at::stack({x - 2, y - 2}, 1);
  }
  if (name == "moons") {
    const at::Tensor angle = rng.uniform({n}) * std::numbers::pi;
    const at::Tensor lower = rng.uniform({n}).ge(0.5).to(at::kFloat);
    const at::Tensor x = at::cos(angle) * (1 - 2 * lower) + lower - 0.5;
    const at::Tensor y = at::sin(angle) * (1 - 2 * lower) + 0.5 * lower - 0.25;
    return at::stack({x, y}, 1) * 1.3 + 0.08 * rng.normal({n, 2});
  }
  if (name == "gaussians") {
    const at::Tensor angle = (rng.uniform({n}) * 8).floor() * (std::numbers::pi / 4);
    return at::stack({at::cos(angle), at::sin(angle)}, 1) * 1.6 + 0.12 * rng.normal({n, 2});
  }
  throw fm::OptionError("there is no data '" + name +
                        "'; choose all, checkerboard, moons or gaussians");
}

/// The sliced Wasserstein distance of order 1: the mean over directions of the distance of the
/// sorted projections.
double sliced_distance(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor angle = at::arange(64) * (std::numbers::pi / 64);
  const at::Tensor directions = at::stack({at::cos(angle), at::sin(angle)}, 0);
  const auto sorted = [&](const at::Tensor& points) {
    return std::get<0>(at::matmul(points, directions).sort(0));
  };
  return (sorted(a) - sorted(b)).abs().mean().item<double>();
}

/// A square panel of the plane from -3 to 3.
class Panel {
 public:
  Panel(support::Canvas& canvas, std::int64_t left, std::int64_t top)
      : canvas_(canvas), left_(left), top_(top) {
    canvas_.fill(left, top, side, side, support::white);
  }
  void points(const at::Tensor& xy, support::Color color, double opacity) {
    const at::Tensor p = place(xy);
    const auto at = p.accessor<float, 2>();
    for (std::int64_t i = 0; i < p.size(0); ++i)
      canvas_.dot(at[i][0], at[i][1], 0.8, color, opacity);
  }
  void path(const at::Tensor& xy, support::Color color) {
    const at::Tensor p = place(xy);
    const auto at = p.accessor<float, 2>();
    for (std::int64_t i = 1; i < p.size(0); ++i) {
      canvas_.line(at[i - 1][0], at[i - 1][1], at[i][0], at[i][1], color, 0.35);
    }
  }
  static constexpr std::int64_t side = 300;

 private:
  at::Tensor place(const at::Tensor& xy) const {
    const at::Tensor clipped = xy.clamp(-3, 3) / 6 + 0.5;
    return at::stack(
        {clipped.select(1, 0) * (side - 1) + left_, (1 - clipped.select(1, 1)) * (side - 1) + top_},
        1);
  }
  support::Canvas& canvas_;
  std::int64_t left_;
  std::int64_t top_;
};

struct Options {
  std::string data = "all";
  std::int64_t steps = 5000;
  std::int64_t width = 96;
  std::uint64_t seed = 1;
  std::filesystem::path out = "toy_2d.png";
};

int toy(const Options& o) {
  support::set_up_machine(1);  // for tensors this small one thread is the fastest
  if (o.steps < 1 || o.steps > 1000000) {
    throw fm::OptionError("--steps is " + std::to_string(o.steps) + "; choose 1 to 1000000");
  }
  if (o.width < 1 || o.width > 4096)
    throw fm::OptionError("--width is " + std::to_string(o.width) + "; choose 1 to 4096");
  constexpr std::int64_t batch = 256;
  constexpr std::int64_t shown = 4000;
  const std::vector<std::string> names =
      o.data == "all" ? std::vector<std::string>{"checkerboard", "moons", "gaussians"}
                      : std::vector<std::string>{o.data};
  constexpr std::int64_t gap = 8;
  constexpr std::int64_t head = 18;
  support::Canvas canvas(3 * (Panel::side + gap) + gap,
                         static_cast<std::int64_t>(names.size()) * (Panel::side + gap + head),
                         support::pale);
  for (std::size_t row = 0; row < names.size(); ++row) {
    fm::Rng rng = fm::Rng(o.seed).fork(names[row]);
    torch::manual_seed(o.seed);
    const at::Tensor data = make_data(names[row], batch * 1000, rng);
    const at::Tensor fresh = make_data(names[row], shown, rng);

    Mlp net(o.width);
    fm::TrainOptions options{
        .epochs = (o.steps + 999) / 1000, .learning_rate = 4e-3, .schedule = fm::one_cycle()};
    options.seed = o.seed;
    const std::int64_t per_epoch = std::min<std::int64_t>(o.steps, 1000);
    std::cerr << names[row] << '\n';
    fm::Trainer trainer(net, fm::VelocityNoisifier(fm::LinearPath{}), options);
    const fm::TrainResult result =
        trainer.fit(fm::TensorBatches(data.slice(0, 0, per_epoch * batch), batch),
                    fm::ProgressBar(std::cerr, support::on_terminal()));

    fm::Sampler sampler(net, fm::ode::Midpoint{}, fm::TimeGrid::uniform(50));
    const at::Tensor track = sampler.trajectory(rng.normal({shown, 2}));
    const at::Tensor samples = track[50];
    std::cout << fmt::format(
        "{}: loss {:.4f}, sliced Wasserstein distance to fresh data {:.4f} (of noise {:.4f})\n",
        names[row], result.loss, sliced_distance(samples, fresh), sliced_distance(track[0], fresh));

    const std::int64_t top = static_cast<std::int64_t>(row) * (Panel::side + gap + head) + head;
    const auto panel = [&](std::int64_t column, const std::string& caption) {
      const std::int64_t left = gap + column * (Panel::side + gap);
      canvas.text(left, top - 11, caption);
      return Panel(canvas, left, top);
    };
    panel(0, names[row] + ": data").points(fresh, support::blue, 0.5);
    panel(1, "samples").points(samples, support::orange, 0.5);
    Panel tracks = panel(2, "from noise (grey) to samples");
    for (std::int64_t i = 0; i < 250; ++i) tracks.path(track.select(1, i), support::grey);
    tracks.points(track[0].slice(0, 0, 250), support::grey, 1);
    tracks.points(samples.slice(0, 0, 250), support::orange, 1);
  }
  support::write_png(o.out, canvas.picture());
  std::cout << "wrote " << o.out.string() << '\n';
  return support::success;
}

int main(int argc, char** argv) {
  CLI::App app("Flow matching in the plane", "toy_2d");
  Options o;
  app.add_option("--data", o.data, "all, checkerboard, moons or gaussians");
  app.add_option("--steps", o.steps, "training steps of 256 points");
  app.add_option("--width", o.width, "width of the network's layers");
  app.add_option("--seed", o.seed, "of data, network, training and samples");
  app.add_option("--out", o.out, "picture");
  return support::run_main(app, argc, argv, [&] { return toy(o); });
}
