#include "flowmatch/loss/flow_and_score.hpp"

#include <limits>

#include "flowmatch/coupling/sinkhorn.hpp"
#include "flowmatch/noisify/noisifier.hpp"
#include "flowmatch/path/bridge.hpp"
#include "flowmatch/train/batch_loss.hpp"
#include "tests/path/torchcfm/paths.hpp"
#include "tests/support/gaussian_bridge.hpp"

namespace {

using gaussian_bridge::m_0, gaussian_bridge::s_0, gaussian_bridge::m_1, gaussian_bridge::s_1;

/// v and s linear in x, at one time.
struct LineImpl : torch::nn::Module {
  explicit LineImpl(const at::Tensor& values) {
    weights = register_parameter("weights", values.clone());
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor&) {
    return at::cat({weights[0] + weights[1] * x, weights[2] + weights[3] * x}, 1);
  }
  at::Tensor weights;
};
TORCH_MODULE(Line);

/// The example of n samples at time t whose means and covariances are exactly those of the bridge.
fm::NoisedSample<fm::NoisyPathSample> exact_example(double t, std::int64_t n = 50) {
  torch::manual_seed(3);
  at::Tensor z = torch::randn({n, 3}, torch::kDouble);
  z = z - z.mean(0);
  const at::Tensor root = at::linalg_cholesky(z.t().matmul(z) / n);
  z = on_device::put(at::linalg_solve_triangular(root, z.t(), /*upper=*/false).t().contiguous());
  const auto of = [&](std::int64_t i) { return z.slice(1, i, i + 1); };
  const double c = gaussian_bridge::covariance();
  const at::Tensor x_0 = m_0 + s_0 * of(0);
  const at::Tensor x_1 = m_1 + c / s_0 * of(0) + std::sqrt(s_1 * s_1 - c * c / (s_0 * s_0)) * of(1);
  const auto sample = fm::BridgePath(gaussian_bridge::sigma)
                          .sample(x_0, x_1, on_device::full({n}, t, torch::kDouble), of(2));
  return {{sample.x_t, sample.t, sample.dx_t, {}}, sample};
}

/// The true v and s at t, as a Line has them.
at::Tensor true_weights(double t) {
  const at::Tensor x = doubles({0, 1}).unsqueeze(1);
  const at::Tensor y = gaussian_bridge::flow_and_score(x, doubles({t, t}));
  return at::stack({y[0][0], y[1][0] - y[0][0], y[0][1], y[1][1] - y[0][1]});
}

}  // namespace

TEST_CASE("flow_and_score: lambda is torchcfm's") {
  const auto all =
      fm::load_safetensors(FLOWMATCH_SOURCE_DIR "/tests/path/torchcfm/paths.safetensors").tensors;
  for (const char* sigma : {"0.5", "1.5"}) {
    const auto get = [&](const std::string& name) { return on_device::put(all.at(name)); };
    const at::Tensor x = get("1/x_0");
    const double s = std::stod(sigma);
    const auto sample = fm::BridgePath(s).sample(x, x, get("1/t"), x);
    // Theirs has 1e-8 in a denominator.
    CHECK(close(fm::FlowAndScoreLoss(s).lambda(sample.sigma_t),
                get(std::string("1/bridge/") + sigma + "/lambda"), 1e-7, 0));
  }
}

TEST_CASE("flow_and_score: the loss is least where velocity and score are the true ones") {
  const fm::FlowAndScoreLoss loss(gaussian_bridge::sigma);
  for (const double t : {0.05, 0.3, 0.5, 0.9}) {
    INFO(t);
    const auto noised = exact_example(t);
    Line truth(true_weights(t));
    const at::Tensor least = loss(truth, noised);
    const at::Tensor gradient = torch::autograd::grad({least}, {truth->weights})[0];
    CHECK(close(gradient, at::zeros_like(gradient), 0, 1e-10));
    for (std::int64_t i = 0; i < 4; ++i) {
      Line other(true_weights(t));
      const at::NoGradGuard no_grad;
      other->weights[i] += 0.1;
      CHECK((loss(other, noised) > least).item<bool>());
    }
  }
}

TEST_CASE("flow_and_score: the terms are those of the paper, at each time and in any precision") {
  fm::Rng rng(4, test_device());
  const double sigma = 0.7;
  const fm::VelocityNoisifier noisifier(
      fm::BridgePath(sigma), fm::SinkhornCoupling({.regularisation = 2 * sigma * sigma}));
  const fm::Batch<at::Tensor> batch{on_device::randn({32, 3, 2, 2}), on_device::arange(32)};
  const auto noised = noisifier(batch, rng);
  auto model = [](const at::Tensor& x, const at::Tensor&, const at::Tensor&) {
    return at::cat({2 * x, -x}, 1);
  };
  const at::Tensor lambda = fm::expand_time(2 * noised.sample.sigma_t / (sigma * sigma), batch.x_1);
  const at::Tensor expected = (2 * noised.x_t - noised.sample.dx_t).square().mean() +
                              (noised.sample.epsilon - lambda * noised.x_t).square().mean();
  CHECK(close(fm::FlowAndScoreLoss(sigma)(model, noised), expected, 1e-5, 1e-6));
  auto half = [&](const at::Tensor& x, const at::Tensor& t, const at::Tensor& c) {
    return model(x, t, c).to(torch::kBFloat16);
  };
  CHECK(close(fm::FlowAndScoreLoss(sigma)(half, noised), expected, 1e-2, 0));
}

TEST_CASE("flow_and_score: paths without noise of their own are not for it") {
  using Model = at::Tensor (*)(const at::Tensor&, const at::Tensor&);
  static_assert(fm::TrainsOn<fm::FlowAndScoreLoss, Model, fm::VelocityNoisifier<fm::BridgePath>,
                             fm::NoCondition>);
  static_assert(fm::TrainsOn<fm::FlowAndScoreLoss, Model, fm::VelocityNoisifier<fm::NoisyPath<>>,
                             fm::NoCondition>);
  static_assert(!fm::TrainsOn<fm::FlowAndScoreLoss, Model, fm::VelocityNoisifier<fm::LinearPath>,
                              fm::NoCondition>);
}

TEST_CASE("flow_and_score: a sigma and outputs that cannot be are refused") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double sigma : {0.0, -1.0, nan})
    require_error<fm::OptionError>([&] { fm::FlowAndScoreLoss{sigma}; }, "that of the BridgePath");
  auto same = [](const at::Tensor& x, const at::Tensor&) { return x; };
  require_error<fm::ShapeError>([&] { fm::FlowAndScoreLoss(1)(same, exact_example(0.5)); },
                                "the velocity first");
}
