#include <flowmatch/flowmatch.hpp>
#include <iostream>

int main() {
  const auto velocity = [](const at::Tensor& x, const at::Tensor&) { return -x; };
  flowmatch::Rng rng(1);
  const at::Tensor x =
      flowmatch::Sampler(velocity, flowmatch::ode::Euler{}, flowmatch::TimeGrid::uniform(10))
          .sample({64, 2}, rng);
  std::cout << "consumer: " << x.size(0) << " samples\n";
}
