// Speed and memory of training the Fashion-MNIST UNet through the library's trainer, to run beside
// a Python peer:
//   unet_training small|paper [batch] [steps] [threads]
// Prints images/s of the median step after two to warm up, and the peak memory. Whole steps: batch,
// noise, forward, backward, optimizer.

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <vector>

#include "examples/fashion_mnist/recipe.hpp"
#include "examples/fashion_mnist/unet.hpp"
#include "examples/support/machine.hpp"
#include "flowmatch/data/tensor_batches.hpp"
#include "flowmatch/model/channels_last.hpp"
#include "flowmatch/noisify/noisifier.hpp"
#include "flowmatch/path/affine.hpp"
#include "flowmatch/train/trainer.hpp"

using namespace fashion_mnist;

int main(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "small";
  const std::int64_t batch = argc > 2 ? std::atoll(argv[2]) : 128;
  const std::int64_t steps = argc > 3 ? std::atoll(argv[3]) : 8;
  support::set_up_machine(argc > 4 ? std::atoi(argv[4]) : 0);
  at::manual_seed(0);
  UNet net(UNetOptions::named(name));
  fm::to_channels_last(*net);
  fm::TensorBatches data(at::randn({batch * (steps + 2), 1, 32, 32}),
                         at::randint(10, {batch * (steps + 2)}, at::kLong), batch);
  Recipe recipe;
  recipe.epochs = 1;
  recipe.learning_rate = 1e-3;
  fm::Trainer trainer(net, fm::VelocityNoisifier(fm::LinearPath{}), train_options(recipe));
  std::vector<double> seconds;
  auto began = std::chrono::steady_clock::now();
  trainer.fit(data, [&](const fm::StepReport&) {
    const auto now = std::chrono::steady_clock::now();
    seconds.push_back(std::chrono::duration<double>(now - began).count());
    began = now;
  });
  std::sort(seconds.begin() + 2, seconds.end());
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::cout << name << " batch " << batch << ": "
            << static_cast<double>(batch) / seconds[2 + static_cast<std::size_t>(steps) / 2]
            << " images/s, peak memory " << usage.ru_maxrss / 1024 << " MB\n";
}
