#include <torch/torch.h>

#include <flowmatch/flowmatch.hpp>
namespace fm = flowmatch;

struct NetImpl : torch::nn::Module {  // any module with forward(x, t) or forward(x, t, condition)
  torch::nn::Sequential layers{torch::nn::Linear(3, 64), torch::nn::SiLU(),
                               torch::nn::Linear(64, 64), torch::nn::SiLU(),
                               torch::nn::Linear(64, 2)};
  NetImpl() { register_module("layers", layers); }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t) {
    return layers->forward(at::cat({x, t.unsqueeze(1)}, 1));
  }
};
TORCH_MODULE(Net);

int main() {
  Net net;
  const at::Tensor data = 2 + 0.3 * torch::randn({20000, 2});  // [N, ...]: points, images, anything

  fm::Trainer trainer(net, fm::VelocityNoisifier(fm::LinearPath{}),
                      {.epochs = 5, .learning_rate = 3e-3});
  trainer.fit(fm::TensorBatches(data, 256), fm::ProgressBar{});

  fm::Rng rng(1);
  fm::Sampler sampler(net, fm::ode::Euler{}, fm::TimeGrid::uniform(100));
  const at::Tensor samples = sampler.sample({1000, 2}, rng);
  std::cout << "mean " << samples.mean().item<double>() << ", std "
            << samples.std(0).mean().item<double>() << '\n';
}
