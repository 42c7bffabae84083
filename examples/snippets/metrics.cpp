// The code of docs/metrics.md, compiled and run.
#include <torch/torch.h>

#include <flowmatch/flowmatch.hpp>
#include <iostream>
#include <vector>

namespace fm = flowmatch;

int main() {
  fm::Rng rng(1);
  const at::Tensor real = rng.normal({2000, 8});
  const at::Tensor fake = rng.normal({2000, 8}) + 0.1;

  fm::FeatureMoments seen;  // mean and covariance; the batches themselves are not kept
  for (const at::Tensor& batch : fake.split(500)) seen.add(batch);
  const double frechet = fm::frechet_distance(seen, fm::FeatureMoments(real));

  const fm::KernelDistance kernel = fm::kernel_distance(fake, real);
  const auto [precision, recall] = fm::precision_recall(real, fake);
  const auto [density, coverage] = fm::density_coverage(real, fake);
  const fm::Nearest copies = fm::nearest(fake, real);  // copies.distance, copies.index: [N]

  const double sliced = fm::sliced_wasserstein(fake, real, rng);
  const double exact = fm::wasserstein(fake.slice(0, 0, 500), real.slice(0, 0, 500));

  const auto velocity = [](const at::Tensor& x, const at::Tensor&) { return -x; };
  fm::Sampler sampler(velocity, fm::ode::Euler{}, fm::TimeGrid::uniform(4));
  const auto [energy, straightness] =
      fm::path_energy(sampler.trajectory(fake), {0, 0.25, 0.5, 0.75, 1});

  std::cout << "energy " << energy << ", straightness " << straightness << '\n';
  std::cout << "Frechet " << frechet << ", kernel " << kernel.value << " +- "
            << kernel.standard_error << "\nprecision " << precision << ", recall " << recall
            << ", density " << density << ", coverage " << coverage << ", nearest "
            << copies.distance.min().item<double>() << "\nsliced " << sliced << ", exact " << exact
            << '\n';
}
