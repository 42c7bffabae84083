// Speed of exact optimal transport of a batch, costs included, to run beside POT and scipy
// (optimal_transport.py): medians of 5, of standard normal x_0 and uniform x_1 [n, 784].
//   optimal_transport [threads]

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <flowmatch/flowmatch.hpp>
#include <iostream>
#include <vector>

namespace fm = flowmatch;

int main(int argc, char** argv) {
  at::set_num_threads(argc > 1 ? std::atoi(argv[1]) : 2);
  torch::manual_seed(0);
  for (const std::int64_t n : {256, 1024, 4096}) {
    const at::Tensor x_0 = torch::randn({n, 784}), x_1 = torch::rand({n, 784});
    std::vector<double> times;
    at::Tensor index;
    for (int i = 0; i < 6; ++i) {
      const auto began = std::chrono::steady_clock::now();
      index = fm::OptimalTransportCoupling<>{}.assignment(x_0, x_1);
      if (i > 0)
        times.push_back(
            std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count() * 1e3);
    }
    std::sort(times.begin(), times.end());
    const double cost =
        (x_0.index_select(0, index).to(at::kDouble) - x_1).square().sum().item<double>();
    std::cout << n << ": " << times[2] << " ms, mean cost " << cost / static_cast<double>(n)
              << '\n';
  }
}
