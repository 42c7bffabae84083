// The table of Tong et al. (2024) in the plane: flow matching (FM), I-CFM, OT-CFM and reflow on
// four pairs of distributions; plane.py is torchcfm's side of it.
//   plane [OUT.csv] [first seed] [seeds]
// A row a method, pair and seed: W_2 of 1,000 samples by 100 steps of Euler's method, and the
// normalised path energy |E int |v|^2 dt - W_2^2(q_0, q_1)| / W_2^2(q_0, q_1). Rows that the file
// holds are not made again. The protocol: 1,000 epochs of 10,000 points in batches of 512, sigma
// 0.1, three hidden layers of 64 (SELU), AdamW at 1e-3 with weight decay 1e-5.

#include <torch/torch.h>

#include <cmath>
#include <cstdlib>
#include <flowmatch/flowmatch.hpp>
#include <fstream>
#include <iostream>
#include <numbers>
#include <string>
#include <vector>

#include "examples/networks/mlp.hpp"

namespace fm = flowmatch;

namespace {

constexpr std::int64_t train_points = 10000, test_points = 1000, batch_size = 512, epochs = 1000;
constexpr double sigma = 0.1;

/// Three hidden layers of 64.
nets::Mlp network() {
  return nets::Mlp(nets::MlpOptions{.activation = [](const at::Tensor& x) { return at::selu(x); }});
}

/// scikit-learn's, in its own unit.
at::Tensor moons(std::int64_t n, double noise, fm::Rng& rng) {
  const at::Tensor angle = at::linspace(0, std::numbers::pi, n / 2);
  const at::Tensor x = at::cat({at::stack({angle.cos(), angle.sin()}, 1),
                                at::stack({1 - angle.cos(), 0.5 - angle.sin()}, 1)});
  return x + noise * rng.normal({n, 2});
}
/// Radius 12, deviation 1.5.
at::Tensor eight_gaussians(std::int64_t n, fm::Rng& rng) {
  const at::Tensor angle = rng.uniform({n}).mul(8).floor() * (std::numbers::pi / 4);
  return 3 * (4 * at::stack({angle.cos(), angle.sin()}, 1) + 0.5 * rng.normal({n, 2}));
}
/// scikit-learn's, its first and last coordinate.
at::Tensor s_curve(std::int64_t n, fm::Rng& rng) {
  const at::Tensor t = 3 * std::numbers::pi * (rng.uniform({n}) - 0.5);
  const at::Tensor x = at::stack({t.sin(), t.sign() * (t.cos() - 1)}, 1);
  return 1.5 * (x + 0.05 * rng.normal({n, 2}));
}

struct Pair {
  std::string name;
  at::Tensor (*source)(std::int64_t, fm::Rng&);
  at::Tensor (*data)(std::int64_t, fm::Rng&);
};
at::Tensor normal(std::int64_t n, fm::Rng& rng) { return rng.normal({n, 2}); }
at::Tensor wide_moons(std::int64_t n, fm::Rng& rng) {
  const at::Tensor x = moons(n, 0.1, rng);
  return (x - x.mean()) / x.std() * 7;
}
const Pair pairs[] = {
    {"N-8gaussians", normal, eight_gaussians},
    {"moons-8gaussians", wide_moons, eight_gaussians},
    {"N-moons", normal, [](std::int64_t n, fm::Rng& rng) { return 2 * moons(n, 0.05, rng) - 1; }},
    {"N-scurve", normal, s_curve},
};

/// N(0, I), or rows of the source's points.
struct PointSource {
  at::Tensor points;  // undefined: normal
  template <class C>
  at::Tensor operator()(const fm::Batch<C>& batch, fm::Rng& rng) const {
    const std::int64_t n = batch.x_1.size(0);
    if (!points.defined()) return rng.normal({n, 2});
    return points.index_select(0, (rng.uniform({n}) * points.size(0)).to(at::kLong));
  }
};

template <class Noisifier>
void train(nets::Mlp& net, const Noisifier& noisifier, const fm::TensorBatchesOptions& batches,
           const at::Tensor& x_1, std::uint64_t seed) {
  fm::TrainOptions options{.epochs = epochs, .learning_rate = 1e-3, .seed = seed};
  options.optimizer = fm::adamw({.weight_decay = 1e-5});
  fm::Trainer trainer(net, noisifier, options);
  trainer.fit(fm::TensorBatches(x_1, batch_size, batches));
}

/// W_2 and the normalised path energy.
std::string measure(nets::Mlp& net, const at::Tensor& x_0, const at::Tensor& x_1) {
  fm::Sampler sampler(net, fm::ode::Euler{}, fm::TimeGrid::uniform(100));
  const at::Tensor points = sampler.trajectory(x_0);
  std::vector<double> times;
  for (int i = 0; i <= 100; ++i) times.push_back(i / 100.0);
  const double energy = fm::path_energy(points, times).energy;
  const double least = std::pow(fm::wasserstein(x_0, x_1), 2);
  return fmt::format("{:.5f},{:.5f}", fm::wasserstein(points[-1], x_1),
                     std::abs(energy - least) / least);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string path = argc > 1 ? argv[1] : "plane.csv";
  const std::uint64_t first = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 42;
  const std::uint64_t seeds = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 5;
  at::set_num_threads(1);
  std::string have;
  {
    std::ifstream file(path);
    have.assign(std::istreambuf_iterator<char>(file), {});
  }
  if (have.empty()) std::ofstream(path) << "method,pair,seed,w2,energy\n";
  for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
    for (const Pair& pair : pairs) {
      fm::Rng rng = fm::Rng(seed).fork(pair.name);
      const at::Tensor x_1 = pair.data(train_points, rng), test_1 = pair.data(test_points, rng);
      const bool gaussian = pair.source == normal;
      const PointSource source{gaussian ? at::Tensor() : pair.source(train_points, rng)};
      const at::Tensor test_0 = pair.source(test_points, rng);
      const fm::TensorBatchesOptions plain{.seed = seed, .last_batch = fm::LastBatch::drop};
      const auto make = [&](const std::string& method, const auto& trained) {
        const std::string name = method + "," + pair.name + "," + std::to_string(seed) + ",";
        if (have.find("\n" + name) != std::string::npos) return;
        torch::manual_seed(seed);
        nets::Mlp net = network();
        trained(net);
        const std::string line = name + measure(net, test_0, test_1);
        std::ofstream(path, std::ios::app) << line << '\n';
        std::cout << line << std::endl;
      };
      const fm::VelocityNoisifier independent(fm::NoisyPath{sigma},
                                              fm::IndependentCoupling{source});
      make("I-CFM", [&](nets::Mlp& net) { train(net, independent, plain, x_1, seed); });
      make("OT-CFM", [&](nets::Mlp& net) {
        train(net,
              fm::VelocityNoisifier(fm::NoisyPath(sigma), fm::OptimalTransportCoupling(source)),
              plain, x_1, seed);
      });
      if (gaussian) {
        make("FM", [&](nets::Mlp& net) {
          train(net, fm::VelocityNoisifier(fm::TargetPath(fm::TargetScheduler(sigma))), plain, x_1,
                seed);
        });
      }
      make("reflow", [&](nets::Mlp& net) {
        nets::Mlp teacher = network();
        train(teacher, independent, plain, x_1, seed);
        const at::Tensor x_0 = pair.source(train_points, rng);
        fm::Sampler sampler(teacher, fm::ode::Euler{}, fm::TimeGrid::uniform(100));
        fm::TensorBatchesOptions paired = plain;
        paired.x_0 = x_0;
        train(net,
              fm::VelocityNoisifier(fm::NoisyPath(sigma),
                                    fm::IndependentCoupling<fm::PairedSource>{}),
              paired, sampler.sample_from(x_0), seed);
      });
    }
  }
}
