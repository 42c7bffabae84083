// A velocity that goes all the way in one step of Euler's, trained on the pairs of a teacher.

#include "flowmatch/sample/sampler.hpp"
#include "tests/support/gaussian_flow.hpp"
#include "tests/train/training.hpp"

namespace {

/// v(x, t) = A x + b + c t.
struct LinearVelocityImpl : torch::nn::Module {
  LinearVelocityImpl() {
    layer = register_module("layer", torch::nn::Linear(3, 2));
    to(test_device(), at::kDouble);
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t) {
    return layer->forward(at::cat({x, t.unsqueeze(1)}, 1));
  }
  torch::nn::Linear layer{nullptr};
};
TORCH_MODULE(LinearVelocity);

at::Tensor one_step(const auto& model, const at::Tensor& x_0) {
  return fm::Sampler(model, fm::ode::Euler{}, fm::TimeGrid::uniform(1)).sample_from(x_0);
}

}  // namespace

TEST_CASE("one_step_distillation: one step of the student is the teacher's map") {
  using namespace gaussian_flow;
  fm::Rng rng(1, test_device());
  const at::Tensor x_0 = rng.normal({512, 2}, at::kDouble),
                   fresh = rng.normal({99, 2}, at::kDouble);
  // The teacher takes N(0, I) to N(mu, s^2 I), x_0 to mu + s x_0; in one step all end at mu.
  fm::Sampler teacher(flow, fm::ode::Dopri5{}, fm::AdaptiveOptions{.rtol = 1e-9, .atol = 1e-9});
  const at::Tensor x_1 = teacher.sample_from(x_0);
  CHECK(close(x_1, mu + s * x_0, 0, 1e-6));
  CHECK(close(one_step(flow, fresh), at::full_like(fresh, mu), 0, 1e-9));

  torch::manual_seed(2);
  LinearVelocity student;
  fm::TrainOptions options;
  options.epochs = 60;
  options.learning_rate = 0.05;
  options.schedule = fm::cosine_annealing();
  fm::VelocityNoisifier pairs(fm::LinearPath{}, fm::IndependentCoupling<fm::PairedSource>{},
                              fm::FixedTime(0));
  fm::Trainer trainer(student, pairs, options);
  trainer.fit(fm::TensorBatches(x_1, 64, {.x_0 = x_0}));
  CHECK(close(one_step(student, fresh), mu + s * fresh, 0, 1e-3));
}

TEST_CASE(
    "one_step_distillation: the examples are x_0 at time 0, with the whole way as their target") {
  fm::Rng rng(3, test_device());
  const at::Tensor x_0 = rng.normal({6, 2}), x_1 = rng.normal({6, 2});
  const fm::VelocityNoisifier pairs(fm::LinearPath{}, fm::IndependentCoupling<fm::PairedSource>{},
                                    fm::FixedTime(0));
  fm::Batch<> batch{x_1};
  batch.x_0 = x_0;
  const fm::Noised<> noised = pairs(batch, rng);
  CHECK(torch::equal(noised.x_t, x_0));
  CHECK(noised.t.eq(0).all().item<bool>());
  CHECK(close(noised.target, x_1 - x_0, 0, 0));
}
