// Snippets of docs/couplings-and-paths.md, guidance.md, mean-flows.md, networks.md and solvers.md,
// compiled and run.

#include <torch/torch.h>

#include <flowmatch/flowmatch.hpp>
#include <iostream>

#include "examples/networks/dit.hpp"
#include "examples/networks/masked_loss.hpp"

namespace fm = flowmatch;

struct NetImpl : torch::nn::Module {
  torch::nn::Linear layer{torch::nn::Linear(3, 2)};
  torch::nn::Embedding classes{torch::nn::Embedding(11, 2)};
  NetImpl() {
    register_module("layer", layer);
    register_module("classes", classes);
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t, const at::Tensor& label) {
    return layer->forward(at::cat({x, t.unsqueeze(1)}, 1)) + classes->forward(label);
  }
};
TORCH_MODULE(Net);

// An average velocity from time t to time r.
struct AverageNetImpl : torch::nn::Module {
  torch::nn::Linear layer{torch::nn::Linear(4, 2)};
  AverageNetImpl() { register_module("layer", layer); }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t, const at::Tensor& r) {
    return layer->forward(at::cat({x, t.unsqueeze(1), r.unsqueeze(1)}, 1));
  }
};
TORCH_MODULE(AverageNet);

// The same for a label and a scale of guidance.
struct GuidedNetImpl : torch::nn::Module {
  torch::nn::Linear layer{torch::nn::Linear(5, 2)};
  torch::nn::Embedding embedding{torch::nn::Embedding(11, 2)};
  GuidedNetImpl() {
    register_module("layer", layer);
    register_module("embedding", embedding);
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t, const at::Tensor& r,
                     const std::tuple<at::Tensor, at::Tensor>& condition) {
    const auto& [label, scale] = condition;
    const at::Tensor times = torch::stack({t, r, scale}, 1);
    return layer->forward(at::cat({x, times}, 1)) + embedding->forward(label);
  }
};
TORCH_MODULE(GuidedNet);

// A velocity, and behind it what the drift of a bridge's SDE has beyond it.
struct TwoHeadsImpl : torch::nn::Module {
  torch::nn::Linear layer{torch::nn::Linear(3, 4)};
  TwoHeadsImpl() { register_module("layer", layer); }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t) {
    return layer->forward(at::cat({x, t.unsqueeze(1)}, 1));
  }
};
TORCH_MODULE(TwoHeads);

int main() {
  torch::manual_seed(1);
  fm::Rng rng(1);
  const at::Tensor points = torch::randn({512, 2}), labels = torch::randint(10, {512});
  const fm::TrainOptions options{.epochs = 1};

  {
    Net net;
    fm::VelocityNoisifier noisifier(fm::LinearPath{},
                                    fm::OptimalTransportCoupling(fm::ConditionAware()));
    fm::Trainer trainer(net, noisifier, options);
    trainer.fit(fm::TensorBatches(points, labels, 128));
  }
  {
    Net net;
    const fm::OptimalTransportCoupling coupling(fm::ConditionAware{});
    fm::Prefetch source(fm::CoupledBatches(fm::TensorBatches(points, labels, 128), coupling,
                                           /*seed=*/1, /*pool=*/4));
    fm::VelocityNoisifier noisifier(fm::LinearPath{}, fm::IndependentCoupling<fm::PairedSource>{});
    fm::Trainer trainer(net, noisifier, options);
    trainer.fit(source);
  }
  {
    Net net;
    fm::VelocityNoisifier noisifier(fm::LinearPath{}, fm::PartialTransportCoupling(0.9));
    fm::Trainer trainer(net, noisifier, options);
    trainer.fit(fm::TensorBatches(points, labels, 128));
  }
  {
    Net net;
    const double sigma = 1;
    fm::VelocityNoisifier bridge(fm::BridgePath(sigma),
                                 fm::SinkhornCoupling({.regularisation = 2 * sigma * sigma}));
    fm::Trainer trainer(net, bridge, options);
    trainer.fit(fm::TensorBatches(points, labels, 128));
  }
  {
    TwoHeads net;
    const double sigma = 0.5;
    fm::VelocityNoisifier bridge(fm::BridgePath(sigma),
                                 fm::SinkhornCoupling({.regularisation = 2 * sigma * sigma}));
    fm::Trainer trainer(net, bridge, options, fm::FlowAndScoreLoss(sigma));
    trainer.fit(fm::TensorBatches(points, 128));

    const fm::EulerMaruyama sde{fm::ConstantDiffusion(sigma)};
    fm::FlowAndScore both(net, sigma);
    fm::Sampler forward(both, sde, fm::TimeGrid::uniform(100));
    fm::Sampler back(both, sde, fm::TimeGrid::uniform(100, 1, 0));
    fm::Sampler flow(both, fm::ode::Dopri5{});
    const at::Tensor x_1 = forward.sample({10, 2}, rng), x_0 = back.sample_from(points, rng);
    std::cout << "bridged: " << x_1.size(0) << " and " << x_0.size(0) << ", along the flow "
              << flow.sample({10, 2}, rng).size(0) << '\n';
  }
  {
    Net net;
    fm::VelocityNoisifier noisifier(fm::LinearPath{}, fm::StratifiedTime(fm::PowerTime()));
    fm::Trainer trainer(net, noisifier, options,
                        fm::WeightedLoss(fm::CosmapWeight{}, fm::PseudoHuber()));
    trainer.fit(fm::TensorBatches(points, labels, 128));
  }

  Net net, small_net;
  {
    const at::Tensor none = torch::tensor({10});
    fm::ConditionDropout noisifier(fm::VelocityNoisifier(fm::LinearPath{}), none, 0.1);
    fm::Trainer trainer(net, noisifier, options);
    trainer.fit(fm::TensorBatches(points, labels, 128));

    fm::ClassifierFreeGuidance guided(net, none, fm::LinearGuidance(2));
    fm::Sampler sampler(guided, fm::ode::Heun2{}, fm::TimeGrid::uniform(10));
    const at::Tensor samples = sampler.sample({10, 2}, rng, torch::arange(10));
    std::cout << "guided: " << samples.size(0) << '\n';
  }
  {
    fm::Autoguidance guided(net, small_net,
                            fm::IntervalGuidance(fm::LinearGuidance(1.5), 0.1, 0.7));
    fm::Sampler sampler(guided, fm::ode::Euler{}, fm::TimeGrid::uniform(10));
    std::cout << "away from: " << sampler.sample({10, 2}, rng, torch::arange(10)).size(0) << '\n';
  }
  {
    const fm::TimeGrid grid = fm::NoiseLevels::karras(10).grid();
    fm::Sampler solver(net, fm::UniPC<2>{}, grid);
    fm::Sampler sde(net, fm::SdeHeun(fm::VanishingDiffusion(0.5)), fm::TimeGrid::uniform(20));
    const at::Tensor x_0 = rng.normal({10, 2});
    std::cout << "solved: " << solver.sample_from(x_0, torch::arange(10)).size(0) << ", "
              << sde.sample_from(x_0, rng, torch::arange(10)).size(0) << '\n';
  }
  {
    AverageNet average;
    fm::Trainer trainer(average, fm::TwoTimeNoisifier(fm::LinearPath{}), options,
                        fm::MeanFlowLoss());
    trainer.fit(fm::TensorBatches(points, 128));

    fm::Sampler one_step(fm::FlowMap{average}, fm::FlowMapStep{}, fm::TimeGrid::uniform(1));
    std::cout << "one step: " << one_step.sample({10, 2}, rng).size(0) << '\n';

    const auto velocity = [](const at::Tensor& x, const at::Tensor&) { return -x; };
    AverageNet student;
    fm::Trainer distillation(student, fm::TwoTimeNoisifier(fm::LinearPath{}, 0.25), options,
                             fm::DistillationLoss(fm::MeanFlowLoss(), velocity));
    distillation.fit(fm::TensorBatches(points, 128));

    fm::GeneratorAndCritic<AverageNet> both(student, AverageNet());
    fm::Trainer matching(both, fm::MatchingNoisifier(), options,
                         fm::DistributionMatchingLoss(velocity));
    matching.fit(fm::TensorBatches(points, 128));
    fm::Sampler matched(fm::FlowMap{both.generator}, fm::FlowMapStep{}, fm::TimeGrid::uniform(1));
  }
  {
    const std::tuple none{torch::tensor({10}), torch::ones({1})};
    fm::GuidanceScales noisifier(
        fm::ConditionDropout(fm::TwoTimeNoisifier(fm::LinearPath{}), none, 0.1), 4);
    GuidedNet guided;
    fm::Trainer trainer(guided, noisifier, options, fm::SelfGuidedLoss(fm::MeanFlowLoss(), none));
    trainer.fit(fm::TensorBatches(points, std::tuple{labels, torch::ones({512})}, 128));

    fm::Sampler one_step(fm::FlowMap{guided}, fm::FlowMapStep{}, fm::TimeGrid::uniform(1));
    const at::Tensor sevens = torch::full({10}, 7);
    const at::Tensor samples =
        one_step.sample({10, 2}, rng, std::tuple{sevens, torch::full({10}, 2.0F)});
    std::cout << "guided in one step: " << samples.size(0) << '\n';
  }
  {
    const at::Tensor x_0 = rng.normal({256, 2}), classes = torch::randint(10, {256});
    fm::Sampler teacher(net, fm::ode::Dopri5{}, fm::AdaptiveOptions{});
    const at::Tensor x_1 = teacher.sample_from(x_0, classes);

    Net straighter;
    fm::Trainer trainer(
        straighter,
        fm::VelocityNoisifier(fm::LinearPath{}, fm::IndependentCoupling<fm::PairedSource>{}),
        options);
    trainer.fit(fm::TensorBatches(x_1, classes, 128, {.x_0 = x_0}));

    Net distilled;
    fm::VelocityNoisifier at_the_start(
        fm::LinearPath{}, fm::IndependentCoupling<fm::PairedSource>{}, fm::FixedTime(0));
    fm::Trainer distillation(distilled, at_the_start, options);
    distillation.fit(fm::TensorBatches(x_1, classes, 128, {.x_0 = x_0}));

    fm::Sampler student(distilled, fm::ode::Euler{}, fm::TimeGrid::uniform(1));
    std::cout << "distilled: " << student.sample({10, 2}, rng, torch::arange(10)).size(0) << '\n';
  }
  {
    const at::Tensor sequences = rng.normal({256, 8, 2}), classes = torch::randint(10, {256});
    const at::Tensor lengths = torch::randint(3, 9, {256});
    const at::Tensor mask = torch::arange(8).unsqueeze(0) < lengths.unsqueeze(1);  // [256, 8]

    nets::DiT dit(nets::DiTOptions{.channels = 2, .width = 32, .depth = 2, .classes = 10});
    fm::Trainer trainer(dit, fm::VelocityNoisifier(fm::LinearPath{}), options, nets::MaskedLoss{});
    trainer.fit(fm::TensorBatches(sequences, std::tuple(classes, mask), 64));

    fm::Sampler sampler(dit, fm::ode::Heun2{}, fm::TimeGrid::uniform(10));
    const std::tuple condition(torch::arange(10), mask.slice(0, 0, 10));
    const at::Tensor samples = sampler.sample({10, 8, 2}, rng, condition);
    std::cout << "sequences: " << samples.size(0) << '\n';
  }
  {
    const auto velocity = [](const at::Tensor& x, const at::Tensor&) { return -x; };
    const at::Tensor known = torch::tensor({{0.5F, 0.0F}});
    fm::Inpainting filled(velocity, known, torch::tensor({{true, false}}));
    const auto sum = [](const at::Tensor& x) { return x.sum(1, true); };
    fm::LinearInverse led(velocity, sum, torch::tensor({{1.0F}}), {.noise = 0.1});
    std::cout
        << "filled in: "
        << fm::Sampler(filled, fm::ode::Heun2{}, fm::TimeGrid::uniform(10)).sample({5, 2}, rng)
        << "\nled: "
        << fm::Sampler(led, fm::ode::Heun2{}, fm::TimeGrid::uniform(10)).sample({5, 2}, rng)
        << '\n';
  }
}
