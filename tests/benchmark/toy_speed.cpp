// Speed of training and sampling a network of four hidden layers in the plane, to run beside a
// Python peer:
//   toy_speed [width] [batch] [steps]
// Prints training steps/s on one thread, and the median milliseconds of Euler (100 steps), midpoint
// (50) and dopri5 (1e-5) on one thread and on all, batches side by side.

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <flowmatch/flowmatch.hpp>
#include <iostream>
#include <vector>

#include "examples/networks/mlp.hpp"

namespace fm = flowmatch;

template <class F>
double milliseconds(F f) {
  std::vector<double> times;
  for (int i = 0; i < 8; ++i) {
    const auto began = std::chrono::steady_clock::now();
    f();
    if (i > 0)
      times.push_back(
          std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count() * 1e3);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

int main(int argc, char** argv) {
  const std::int64_t width = argc > 1 ? std::atoll(argv[1]) : 64;
  const std::int64_t batch = argc > 2 ? std::atoll(argv[2]) : 256;
  const std::int64_t steps = argc > 3 ? std::atoll(argv[3]) : 400;
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  torch::manual_seed(0);
  nets::Mlp net(nets::MlpOptions{.width = width, .depth = 4});
  fm::Trainer trainer(net, fm::VelocityNoisifier(fm::LinearPath{}), {.epochs = 2});
  fm::TensorBatches data(torch::randn({batch * steps, 2}), batch);
  double first = 0;
  double all = 0;
  trainer.fit(data, [&](const fm::EpochReport& r) { (r.epoch == 0 ? first : all) = r.seconds; });
  std::cout << "width " << width << ", batch " << batch << ": "
            << static_cast<double>(steps) / (all - first) << " training steps/s\n";
  fm::Rng rng(1);
  const at::Tensor x_0 = rng.normal({batch, 2});
  for (const bool parallel : {false, true}) {
    at::set_num_threads(parallel ? threads : 1);
    const fm::SamplerOptions options{.parallel = parallel};
    fm::Sampler euler(net, fm::ode::Euler{}, fm::TimeGrid::uniform(100), options);
    fm::Sampler midpoint(net, fm::ode::Midpoint{}, fm::TimeGrid::uniform(50), options);
    fm::Sampler dopri5(net, fm::ode::Dopri5{}, fm::AdaptiveOptions{.rtol = 1e-5, .atol = 1e-5},
                       options);
    std::cout << "  " << at::get_num_threads() << " threads: euler 100 "
              << milliseconds([&] { euler.sample_from(x_0); }) << " ms, midpoint 50 "
              << milliseconds([&] { midpoint.sample_from(x_0); }) << " ms, dopri5 "
              << milliseconds([&] { dopri5.sample_from(x_0); }) << " ms\n";
  }
}
