// The networks of the examples, each trained by the same trainer.

#include "examples/fashion_mnist/unet.hpp"
#include "examples/networks/dit.hpp"
#include "examples/networks/masked_loss.hpp"
#include "examples/networks/mlp.hpp"
#include "flowmatch/data/tensor_batches.hpp"
#include "flowmatch/loss/mean_flow.hpp"
#include "flowmatch/noisify/two_times.hpp"
#include "flowmatch/path/affine.hpp"
#include "flowmatch/sample/flow_map_step.hpp"
#include "flowmatch/sample/sampler.hpp"
#include "flowmatch/train/trainer.hpp"
#include "tests/support/test.hpp"

namespace {

/// The mean loss of the first and of the last epoch.
template <class Net, class Noisifier, class Source, class Objective = fm::PredictionLoss<>>
std::pair<double, double> losses(Net& net, const Noisifier& noisifier, Source source,
                                 std::int64_t epochs, Objective objective = {}) {
  fm::TrainOptions options;
  options.epochs = epochs;
  options.learning_rate = 1e-2;
  std::vector<double> all;
  fm::Trainer trainer(net, noisifier, options, objective);
  trainer.fit(source, [&](const fm::EpochReport& r) { all.push_back(r.loss); });
  return {all.front(), all.back()};
}

const auto velocity = [] { return fm::VelocityNoisifier(fm::LinearPath{}); };

at::Tensor points() { return 0.2 * fm::Rng(1).normal({256, 2}) + 1; }
at::Tensor images() { return 0.2 * fm::Rng(2).normal({64, 1, 8, 8}) + 1; }
at::Tensor sequences() { return 0.2 * fm::Rng(3).normal({64, 6, 2}) + 1; }
at::Tensor labels(std::int64_t n) { return torch::arange(n).remainder(3); }

void falls(const std::pair<double, double>& loss, double to) {
  INFO(loss.first << " to " << loss.second);
  CHECK(loss.second < to * loss.first);
}

}  // namespace

TEST_CASE("networks: an MLP learns, plain, with waves, with labels, of two times") {
  torch::manual_seed(1);
  nets::Mlp plain, labelled(nets::MlpOptions{.x_waves = {1.5F}, .t_waves = {3}, .classes = 3});
  falls(losses(plain, velocity(), fm::TensorBatches(points(), 32), 12), 0.8);
  falls(losses(labelled, velocity(), fm::TensorBatches(points(), labels(256), 32), 12), 0.8);
  nets::Mlp average(nets::MlpOptions{.two_times = true});
  falls(losses(average, fm::TwoTimeNoisifier(fm::LinearPath{}), fm::TensorBatches(points(), 32), 12,
               fm::MeanFlowLoss({.power = 0})),
        0.8);
  fm::Rng rng(4);
  fm::Sampler one{fm::FlowMap{average}, fm::FlowMapStep{}, fm::TimeGrid::uniform(1)};
  CHECK(one.sample({100, 2}, rng).mean().item<double>() == Approx(1).margin(0.3));
}

TEST_CASE("networks: a UNet learns by the same trainer") {
  torch::manual_seed(2);
  fashion_mnist::UNet net(
      fashion_mnist::UNetOptions{.widths = {8, 16}, .blocks = 1, .groups = 4, .time_scale = 1000});
  falls(losses(net, velocity(), fm::TensorBatches(images(), labels(64), 16), 12), 0.8);
}

TEST_CASE("networks: a DiT learns by the same trainer, images and sequences") {
  torch::manual_seed(3);
  nets::DiT of_images(nets::DiTOptions{.patch = 2, .width = 32, .depth = 2, .classes = 3});
  falls(losses(of_images, velocity(), fm::TensorBatches(images(), labels(64), 16), 12), 0.8);
  nets::DiT of_sequences(nets::DiTOptions{.channels = 2, .width = 32, .depth = 2});
  falls(losses(of_sequences, velocity(), fm::TensorBatches(sequences(), 16), 12), 0.8);
}

TEST_CASE("networks: a DiT learns sequences of different lengths; padding has no part in it") {
  const at::Tensor lengths = torch::arange(64).remainder(5) + 2;
  const at::Tensor mask = torch::arange(6).unsqueeze(0) < lengths.unsqueeze(1);
  const auto trained = [&](double padding) {
    torch::manual_seed(4);
    nets::DiT net(nets::DiTOptions{.channels = 2, .width = 32, .depth = 2, .classes = 3});
    const at::Tensor x = sequences().masked_fill(mask.logical_not().unsqueeze(2), padding);
    falls(losses(net, velocity(), fm::TensorBatches(x, std::tuple(labels(64), mask), 16), 12,
                 nets::MaskedLoss{}),
          0.8);
    return net;
  };
  nets::DiT zeros = trained(0), junk = trained(1e6);
  const auto a = zeros->parameters(), b = junk->parameters();
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(torch::equal(a[i], b[i]));

  fm::Rng rng(5);
  fm::Sampler sampler{zeros, fm::ode::Euler{}, fm::TimeGrid::uniform(10)};
  const at::Tensor x = sampler.sample({64, 6, 2}, rng, std::tuple(labels(64), mask));
  CHECK(x.index({mask}).mean().item<double>() == Approx(1).margin(0.3));
  require_error<fm::ShapeError>(
      [&] {
        nets::MaskedLoss{}(zeros, fm::Noised<at::Tensor>{x, torch::rand({64}), x, labels(64)});
      },
      "needs a mask");
}

TEST_CASE("networks: a DiT is a mean flow by the forward derivative") {
  torch::manual_seed(6);
  nets::DiT net(nets::DiTOptions{
      .channels = 2, .width = 32, .depth = 2, .classes = 3, .two_times = true, .time_scale = 10});
  const fm::MeanFlowLoss objective({.power = 0, .derivative = fm::Derivative::forward});
  falls(losses(net, fm::TwoTimeNoisifier(fm::LinearPath{}, 0.5),
               fm::TensorBatches(sequences(), labels(64), 16), 20, objective),
        0.8);
  fm::Rng rng(7);
  fm::Sampler one{fm::FlowMap{net}, fm::FlowMapStep{}, fm::TimeGrid::uniform(1)};
  CHECK(one.sample({64, 6, 2}, rng, labels(64)).mean().item<double>() == Approx(1).margin(0.3));
}

TEST_CASE("networks: an MLP says what it was built for") {
  nets::Mlp net;
  const at::Tensor t = torch::rand({4}), x = torch::randn({4, 2});
  require_error<fm::ShapeError>([&] { net->forward(torch::randn({4, 3}), t); }, "dimensions");
  require_error<fm::ShapeError>(
      [&] {
        net->forward(x, t, torch::ones({4, 2}, at::kBool));
      },
      "for sequences");
  require_error<fm::ShapeError>([&] { net->forward(x, torch::rand({3})); }, "one time for each");
  require_error<fm::OptionError>([&] { net->forward(x, t, t); }, "two_times");
  require_error<fm::OptionError>([&] { net->forward(x, t, torch::zeros({4}, at::kLong)); },
                                 "build it with classes");
  require_error<fm::OptionError>([] { nets::Mlp(nets::MlpOptions{.depth = 0}); }, "at least 1");
  require_error<fm::OptionError>([] { nets::Mlp(nets::MlpOptions{.activation = nullptr}); },
                                 "needs an activation");
}
