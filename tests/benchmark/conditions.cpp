// The table of condition-aware optimal transport (Cheng & Schwing 2025, figure 1): eight Gaussians
// to two moons, without a condition, with the class, and with the coordinate x, coupled at random,
// by optimal transport, and by transport that is aware of conditions.
//   conditions [OUT.csv] [seeds] [column]
// A row a column and seed: W_2^2 of 10,000 samples by one Euler step and by dopri5 (1e-4), and its
// evaluations. Rows that the file holds are not made again. The protocol is that of the authors'
// moons.py: 20,000 steps of 256, of which an optimal transport of 1,024 serves four; Adam, 3e-4.

#include <torch/torch.h>

#include <cmath>
#include <cstdlib>
#include <flowmatch/flowmatch.hpp>
#include <fstream>
#include <iostream>
#include <numbers>
#include <string>
#include <type_traits>

namespace fm = flowmatch;

namespace {

constexpr std::int64_t width = 128, batch_size = 256, pool = 4, steps = 20000, test_points = 10000;

/// Linear layers of x, t and the condition, then three residual blocks.
struct NetImpl : torch::nn::Module {
  NetImpl() {
    using torch::nn::Linear;
    x_in = register_module("x_in", Linear(2, width));
    t_in = register_module("t_in", Linear(1, width));
    c_in = register_module("c_in", Linear(1, width));
    for (int i = 0; i < 3; ++i) {
      blocks.push_back(
          register_module("block" + std::to_string(i),
                          torch::nn::Sequential(Linear(width, 4 * width), torch::nn::GELU(),
                                                Linear(4 * width, width))));
    }
    out = register_module("out", Linear(width, 2));
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t) {
    return rest(x_in->forward(x) + t_in->forward(t.unsqueeze(1)));
  }
  /// Classes 0 and 1 are given as -1 and 1.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t, const at::Tensor& condition) {
    const at::Tensor c = condition.is_floating_point()
                             ? condition
                             : (2 * condition.to(x.scalar_type()) - 1).unsqueeze(1);
    return rest(x_in->forward(x) + t_in->forward(t.unsqueeze(1)) + c_in->forward(c));
  }
  at::Tensor rest(at::Tensor h) {
    for (auto& block : blocks) h = block->forward(h) + h;
    return out->forward(h);
  }
  torch::nn::Linear x_in{nullptr}, t_in{nullptr}, c_in{nullptr}, out{nullptr};
  std::vector<torch::nn::Sequential> blocks;
};
TORCH_MODULE(Net);

/// Radius 5, variance sqrt(0.1) in each coordinate.
at::Tensor eight_gaussians(std::int64_t n, fm::Rng& rng) {
  const at::Tensor angle = rng.uniform({n}).mul(8).floor() * (std::numbers::pi / 4);
  return 5 * at::stack({angle.cos(), angle.sin()}, 1) + std::pow(0.1, 0.25) * rng.normal({n, 2});
}

struct EightGaussians {
  template <class C>
  at::Tensor operator()(const fm::Batch<C>& batch, fm::Rng& rng) const {
    return eight_gaussians(batch.x_1.size(0), rng);
  }
};

/// Even angles, and one number of U(0, 0.2) for both coordinates; times 3, minus 1.
struct Moons {
  at::Tensor x, label;
  Moons(std::int64_t n, fm::Rng& rng) {
    const at::Tensor angle = at::linspace(0, std::numbers::pi, n / 2);
    const at::Tensor outer = at::stack({angle.cos(), angle.sin()}, 1);
    const at::Tensor inner = at::stack({1 - angle.cos(), 0.5 - angle.sin()}, 1);
    x = (at::cat({outer, inner}) + 0.2 * rng.uniform({n, 1})) * 3 - 1;
    label = at::cat({at::zeros({n / 2}, at::kLong), at::ones({n / 2}, at::kLong)});
  }
};

enum class Given { nothing, label, x };

template <Given given>
auto condition_of(const Moons& moons) {
  if constexpr (given == Given::nothing) {
    return fm::NoCondition{};
  } else if constexpr (given == Given::label) {
    return moons.label;
  } else {
    return moons.x.slice(1, 0, 1);
  }
}

/// Pools of new points: in the order of their angles, so that each batch is a quarter of them, or
/// shuffled. Transport gives the authors' pools the order of x_0; without it they stay in theirs.
template <Given given>
class MoonBatches {
 public:
  using condition_type = decltype(condition_of<given>(std::declval<Moons>()));
  MoonBatches(std::uint64_t seed, bool shuffled) : rng_(seed), shuffled_(shuffled) {}
  std::int64_t batches_per_epoch() const { return steps; }
  void start_epoch(std::int64_t) { given_ = 0; }
  std::optional<fm::Batch<condition_type>> next() {
    if (given_ == steps) return std::nullopt;
    if (given_ % pool == 0) {
      fm::Rng rng = rng_.fork("pool", static_cast<std::uint64_t>(given_));
      const Moons moons(pool * batch_size, rng);
      const at::Tensor order =
          shuffled_ ? rng.permutation(pool * batch_size) : at::arange(pool * batch_size);
      x_ = moons.x.index_select(0, order);
      condition_ =
          fm::condition_traits<condition_type>::index_select(condition_of<given>(moons), order);
    }
    const std::int64_t first = given_++ % pool * batch_size;
    const at::Tensor index = at::arange(first, first + batch_size);
    return fm::Batch<condition_type>{
        x_.index_select(0, index),
        fm::condition_traits<condition_type>::index_select(condition_, index)};
  }

 private:
  fm::Rng rng_;
  bool shuffled_;
  std::int64_t given_ = 0;
  at::Tensor x_;
  condition_type condition_{};
};

/// Trains and measures one cell: W_2^2 by one step, by dopri5, and the latter's evaluations.
template <Given given, class Coupling>
std::string row(std::uint64_t seed, const Coupling& coupling, bool shuffled = true) {
  torch::manual_seed(seed);
  Net net;
  fm::TrainOptions options{.epochs = 1, .learning_rate = 3e-4, .seed = seed};
  fm::Trainer trainer(
      net, fm::VelocityNoisifier(fm::LinearPath{}, fm::IndependentCoupling<fm::PairedSource>{}),
      options);
  trainer.fit(fm::CoupledBatches(MoonBatches<given>(seed, shuffled), coupling, seed, pool));

  fm::Rng rng = fm::Rng(seed).fork("test");
  const at::Tensor x_0 = eight_gaussians(test_points, rng);
  const Moons moons(test_points, rng);
  const auto condition = condition_of<given>(moons);
  const auto squared = [&](const at::Tensor& x) {
    return std::pow(fm::wasserstein(x, moons.x), 2);
  };
  fm::Sampler one(net, fm::ode::Euler{}, fm::TimeGrid::uniform(1));
  fm::Sampler adaptive(net, fm::ode::Dopri5{}, fm::AdaptiveOptions{.rtol = 1e-4, .atol = 1e-4},
                       {.batch_size = batch_size});
  const double euler = squared(one.sample_from(x_0, condition));
  const fm::SampleResult result = adaptive.solve(x_0, condition);
  return fmt::format("{:.5f},{:.5f},{:.1f}", euler, squared(result.x),
                     static_cast<double>(result.statistics.evaluations) /
                         std::ceil(static_cast<double>(test_points) / batch_size));
}

}  // namespace

int main(int argc, char** argv) {
  const std::string path = argc > 1 ? argv[1] : "conditions.csv";
  const std::uint64_t seeds = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 5;
  const std::string only = argc > 3 ? argv[3] : "";
  at::set_num_threads(1);
  const fm::IndependentCoupling random(EightGaussians{});
  const fm::OptimalTransportCoupling best(EightGaussians{});
  const fm::OptimalTransportCoupling aware(EightGaussians{}, fm::ConditionAware());
  std::string have;
  {
    std::ifstream file(path);
    have.assign(std::istreambuf_iterator<char>(file), {});
  }
  if (have.empty()) std::ofstream(path) << "column,seed,euler,adaptive,evaluations\n";
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    const auto make = [&](const std::string& column, const auto& measure) {
      const std::string name = column + "," + std::to_string(seed) + ",";
      if ((!only.empty() && only != column) || have.find("\n" + name) != std::string::npos) return;
      const std::string line = name + measure();
      std::ofstream(path, std::ios::app) << line << '\n';
      std::cout << line << std::endl;
    };
    make("FM", [&] { return row<Given::nothing>(seed, random, /*shuffled=*/false); });
    make("OT", [&] { return row<Given::nothing>(seed, best); });
    make("FM class", [&] { return row<Given::label>(seed, random, /*shuffled=*/false); });
    make("OT class", [&] { return row<Given::label>(seed, best); });
    make("aware class", [&] { return row<Given::label>(seed, aware); });
    make("FM x", [&] { return row<Given::x>(seed, random, /*shuffled=*/false); });
    make("OT x", [&] { return row<Given::x>(seed, best); });
    make("aware x", [&] { return row<Given::x>(seed, aware); });
  }
}
