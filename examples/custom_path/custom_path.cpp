// A scheduler, a path and a network of one's own, trained and sampled: points on a ring.

#include <torch/torch.h>

#include <flowmatch/flowmatch.hpp>
#include <iostream>
#include <numbers>

namespace fm = flowmatch;

// A scheduler: how much data and noise is in x_t, and the derivatives. AffinePath<SmoothStep> would
// be a path already.
struct SmoothStep {
  fm::Coefficients operator()(const at::Tensor& t) const {
    const at::Tensor alpha = t * t * (3 - 2 * t);
    const at::Tensor d_alpha = 6 * t * (1 - t);
    return {alpha, 1 - alpha, d_alpha, -d_alpha};
  }
};

// A path: the scheduler's, bent sideways on its way. Whatever has sample(x_0, x_1, t) is a path.
struct BentPath {
  fm::AffinePath<SmoothStep> straight;
  fm::PathSample sample(const at::Tensor& x_0, const at::Tensor& x_1, const at::Tensor& t) const {
    fm::PathSample s = straight.sample(x_0, x_1, t);
    const at::Tensor angle = std::numbers::pi * fm::expand_time(t, x_0);
    s.x_t = s.x_t + 0.3 * at::sin(angle);
    s.dx_t = s.dx_t + 0.3 * std::numbers::pi * at::cos(angle);
    return s;
  }
};

struct NetworkImpl : torch::nn::Module {
  torch::nn::Sequential layers{
      torch::nn::Linear(3, 64),  torch::nn::SiLU(), torch::nn::Linear(64, 64), torch::nn::SiLU(),
      torch::nn::Linear(64, 64), torch::nn::SiLU(), torch::nn::Linear(64, 2)};
  NetworkImpl() { register_module("layers", layers); }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t) {
    return layers->forward(at::cat({x, t.unsqueeze(1)}, 1));
  }
};
TORCH_MODULE(Network);

int main() {
  at::set_num_threads(1);
  torch::manual_seed(0);
  const at::Tensor angle = 2 * std::numbers::pi * torch::rand({20000, 1});
  const at::Tensor ring = at::cat({at::cos(angle), at::sin(angle)}, 1);

  Network net;
  fm::Trainer trainer(net, fm::VelocityNoisifier(BentPath{}),
                      {.epochs = 20, .learning_rate = 5e-3, .schedule = fm::one_cycle()});
  const fm::TrainResult result = trainer.fit(fm::TensorBatches(ring, 256));

  fm::Rng rng(1);
  const at::Tensor x =
      fm::Sampler(net, fm::ode::Midpoint{}, fm::TimeGrid::uniform(20)).sample({2000, 2}, rng);
  const at::Tensor radius = x.norm(2, 1);
  std::cout << "loss " << result.loss << "; radius of the samples " << radius.mean().item<double>()
            << " +- " << radius.std().item<double>() << " (the ring's is 1)\n";
}
