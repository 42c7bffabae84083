// The blog post's pieces in C++, as docs/from-the-post.md shows them. Runs each on something small
// and checks it.

#include <torch/torch.h>

#include <flowmatch/flowmatch.hpp>
#include <iostream>

#include "examples/fashion_mnist/unet.hpp"

namespace fm = flowmatch;

int main() {
  torch::manual_seed(0);
  const at::Tensor images = torch::rand({64, 1, 32, 32}) - 0.5;
  const at::Tensor labels = torch::randint(10, {64});
  const at::Tensor x = images, z = torch::randn_like(images), n = torch::rand({64});
  fm::Rng rng(42);

  // The path: x_n = (1-n) z + n x and its derivative x - z.
  const fm::PathSample p = fm::LinearPath{}.sample(/*x_0=*/z, /*x_1=*/x, /*t=*/n);
  const at::Tensor nr = n.reshape({-1, 1, 1, 1});
  const bool path_agrees =
      at::allclose(p.x_t, (1 - nr) * z + nr * x, 1e-5, 1e-6) && at::equal(p.dx_t, x - z);

  // The second attempt: a blank page, and the change over a step of 0.01 as the target.
  fm::PathNoisifier second_attempt(fm::LinearPath{}, fm::FiniteDifferenceTarget(0.01),
                                   fm::IndependentCoupling(fm::ConstantSource(0.5)));
  const fm::Noised<> small = second_attempt(fm::Batch<>{images}, rng);

  // noisify.
  fm::VelocityNoisifier noisify(fm::LinearPath{}, fm::UniformTime(0.999));
  const fm::Noised<at::Tensor> noised = noisify(fm::Batch<at::Tensor>{images, labels}, rng);

  // Training.
  fashion_mnist::UNet model(fashion_mnist::UNetOptions::small());
  fm::Trainer trainer(model, noisify,
                      {.epochs = 1,
                       .learning_rate = 1e-2,
                       .optimizer = fm::adam({.eps = 1e-5}),
                       .schedule = fm::one_cycle()});
  const fm::TrainResult result = trainer.fit(fm::TensorBatches(images, labels, 32));

  // sample.
  fm::Sampler sampler(model, fm::ode::Euler{}, fm::TimeGrid::post(10));
  const at::Tensor preds = sampler.trajectory(rng.normal({8, 1, 32, 32}), labels.slice(0, 0, 8));

  std::cout << "path " << (path_agrees ? "agrees" : "differs") << "; second attempt's target is "
            << small.target.abs().mean().item<float>() << " in size, the velocity "
            << noised.target.abs().mean().item<float>() << "; loss " << result.loss << "; preds "
            << preds.sizes() << '\n';
  return path_agrees ? 0 : 1;
}
