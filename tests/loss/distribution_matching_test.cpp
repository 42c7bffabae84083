#include "flowmatch/loss/distribution_matching.hpp"

#include <cmath>
#include <limits>

#include "flowmatch/data/tensor_batches.hpp"
#include "flowmatch/model/generator_and_critic.hpp"
#include "flowmatch/noisify/matching.hpp"
#include "flowmatch/optim/parameter_groups.hpp"
#include "flowmatch/path/schedulers.hpp"
#include "flowmatch/train/trainer.hpp"
#include "tests/support/gaussian_flow.hpp"
#include "tests/support/networks.hpp"

namespace {

/// N(0, 1) to N(mean, spread^2): as a generator u(x, t, r), and as the flow v(x, t).
struct NormalImpl : torch::nn::Module {
  NormalImpl(double m, double s) {
    mean = register_parameter("mean", on_device::full({1}, m, at::kDouble));
    spread = register_parameter("spread", on_device::full({1}, s, at::kDouble));
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t, const at::Tensor& r) {
    last_times = {t, r};
    return mean + (spread - 1) * x;
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& time) {
    const at::Tensor t = fm::expand_time(time, x), variance = spread.square();
    return mean +
           (variance * t - (1 - t)) / ((1 - t).square() + variance * t.square()) * (x - t * mean);
  }
  at::Tensor mean, spread;
  std::vector<at::Tensor> last_times{};
};
TORCH_MODULE(Normal);

fm::MatchingNoised<> looks(std::int64_t n, double latest = 0.9) {
  fm::Rng rng(3, test_device());
  return fm::MatchingNoisifier(fm::UniformTime(latest))(
      fm::Batch<>{on_device::zeros({n, 1}, at::kDouble)}, rng);
}

double number(const at::Tensor& x) { return x.item<double>(); }

}  // namespace

TEST_CASE("distribution_matching: the loss is the formula, and each term trains its own network") {
  fm::GeneratorAndCritic<Normal> both(Normal(0.3, 0.8), Normal(0.1, 1.2));
  const auto noised = looks(64);
  const fm::DistributionMatchingLoss loss(gaussian_flow::velocity);
  const at::Tensor value = loss(both, noised);

  const at::Tensor x = 0.3 + 0.8 * noised.x_t, s = noised.look.unsqueeze(1);
  const at::Tensor x_s = s * x + (1 - s) * noised.noise;
  const at::Tensor of_critic = both.critic->forward(x_s, noised.look);
  const at::Tensor wanted = x_s + (1 - s) * gaussian_flow::velocity(x_s, noised.look);
  const at::Tensor g =
      (x_s + (1 - s) * of_critic - wanted).detach() / ((x - wanted).abs() + 1e-3).detach();
  const at::Tensor of_flow = (of_critic - (x - noised.noise)).square().mean();
  CHECK(number(value) == Approx(0.5 * number(g.square().mean()) + number(of_flow)));
  CHECK(at::equal(both.generator->last_times[0], at::zeros_like(noised.t)));
  CHECK(at::equal(both.generator->last_times[1], at::ones_like(noised.t)));

  value.backward();
  CHECK(number(both.generator->mean.grad()) == Approx(number(g.mean())));
  CHECK(number(both.generator->spread.grad()) == Approx(number((g * noised.x_t).mean())));
  const auto of_critic_alone =
      torch::autograd::grad({of_flow}, {both.critic->mean, both.critic->spread});
  CHECK(number(both.critic->mean.grad()) == Approx(number(of_critic_alone[0])));
  CHECK(number(both.critic->spread.grad()) == Approx(number(of_critic_alone[1])));
}

TEST_CASE("distribution_matching: where critic and teacher agree the generator stays") {
  fm::GeneratorAndCritic<Normal> both(Normal(-2, 3), Normal(gaussian_flow::mu, gaussian_flow::s));
  fm::DistributionMatchingLoss(gaussian_flow::velocity)(both, looks(64)).backward();
  CHECK(std::abs(number(both.generator->mean.grad())) < 1e-12);
}

TEST_CASE("distribution_matching: other schedules are looked at by their own formulas") {
  // The data prediction of a flow does not depend on its schedule at the same signal-to-noise
  // ratio; here it is the exact posterior mean of N(m, d^2) in a t + b e.
  const fm::CosineScheduler scheduler;
  const auto flow_of = [&](double m, double d) {
    return [=](const at::Tensor& x, const at::Tensor& t) {
      const fm::Coefficients c = fm::coefficients_at(scheduler, t, x);
      const at::Tensor gain = d * d * c.alpha_t / (c.alpha_t.square() * d * d + c.sigma_t.square());
      return fm::velocity_from_x_1(c, x, m + gain * (x - c.alpha_t * m));
    };
  };
  struct Pair : torch::nn::Module {
    Normal generator{0.3, 0.8};
    std::function<at::Tensor(const at::Tensor&, const at::Tensor&)> critic;
  } both;
  both.critic = flow_of(0.3, 0.8);
  const auto noised = looks(2000);
  fm::DistributionMatchingLoss(flow_of(0.5, 0.8), scheduler)(both, noised).backward();
  // x_1 of the critic lies below the teacher's by (1 - gain alpha) 0.2 whatever x_s.
  CHECK(number(both.generator->mean.grad()) < 0);
  both.generator->mean.mutable_grad().reset();
  fm::DistributionMatchingLoss(flow_of(0.3, 0.8), scheduler)(both, noised).backward();
  CHECK(std::abs(number(both.generator->mean.grad())) < 1e-12);
}

TEST_CASE("distribution_matching: a generator comes to make the teacher's samples") {
  for (const bool pretrained : {true, false}) {
    fm::GeneratorAndCritic<Normal> both(Normal(pretrained ? 0.5 : -1, pretrained ? 0.6 : 1.5),
                                        Normal(0.5, 0.6));
    fm::TrainOptions options{.epochs = 1, .learning_rate = 0.03, .seed = 5};
    options.optimizer =
        fm::with_groups(fm::adam({.beta1 = 0}), {{.prefix = "critic.", .rate_factor = 2}});
    options.schedule = fm::cosine_annealing();
    fm::Trainer trainer(both, fm::MatchingNoisifier(fm::UniformTime(0.98)), options,
                        fm::DistributionMatchingLoss(gaussian_flow::velocity));
    trainer.fit(fm::TensorBatches(on_device::zeros({600 * 256, 1}, at::kDouble), 256));
    CHECK(number(both.generator->mean) == Approx(gaussian_flow::mu).margin(0.02));
    CHECK(std::abs(number(both.generator->spread)) == Approx(gaussian_flow::s).margin(0.02));
    CHECK(number(both.critic->mean) == Approx(gaussian_flow::mu).margin(0.03));
  }
}

TEST_CASE("distribution_matching: a velocity makes one step, and modes stay as they were") {
  networks::Conditional generator, critic, teacher;
  teacher->train();
  fm::GeneratorAndCritic<networks::Conditional> both(generator, critic);
  fm::Rng rng(1, test_device());
  const fm::Batch<at::Tensor> batch{on_device::randn({8, 1, 4, 4}), on_device::arange(8)};
  const auto noised = fm::MatchingNoisifier()(batch, rng);
  const at::Tensor running = teacher->norm->running_mean.clone();
  const fm::DistributionMatchingLoss loss(teacher);
  loss(both, noised).backward();
  CHECK(teacher->is_training());
  CHECK(at::equal(teacher->norm->running_mean, running));
  for (const at::Tensor& p : teacher->parameters()) CHECK_FALSE(p.grad().defined());
  for (const at::Tensor& p : both.parameters()) CHECK(p.grad().defined());
}

TEST_CASE("distribution_matching: outputs of another shape are refused") {
  const auto wide = [](const at::Tensor& x, const at::Tensor&) { return at::cat({x, x}, 1); };
  fm::GeneratorAndCritic<Normal> both(Normal(0, 1), Normal(0, 1));
  require_error<fm::ShapeError>([&] { fm::DistributionMatchingLoss{wide}(both, looks(4)); },
                                "the teacher's velocity");
  struct Pair : torch::nn::Module {
    std::function<at::Tensor(const at::Tensor&, const at::Tensor&)> generator, critic;
  } other;
  other.generator = wide;
  other.critic = gaussian_flow::velocity;
  const fm::DistributionMatchingLoss loss(gaussian_flow::velocity);
  require_error<fm::ShapeError>([&] { loss(other, looks(4)); }, "the generator's output");
  other.generator = gaussian_flow::velocity;
  other.critic = wide;
  require_error<fm::ShapeError>([&] { loss(other, looks(4)); }, "the critic's velocity");
}
