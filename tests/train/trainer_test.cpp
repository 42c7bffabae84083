#include "flowmatch/train/trainer.hpp"

#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "flowmatch/optim/parameter_groups.hpp"
#include "tests/train/training.hpp"

using namespace training;

namespace {

/// Noise and times computed from the data alone, so that they do not depend on how the data is cut
/// into batches.
struct FixedNoisifier {
  fm::Noised<> operator()(const fm::Batch<>& batch, fm::Rng&) const {
    const at::Tensor x_0 = (10 * batch.x_1).sin();
    const at::Tensor t = batch.x_1.sum(1).sigmoid();
    return {(1 - t).unsqueeze(1) * x_0 + t.unsqueeze(1) * batch.x_1, t, batch.x_1 - x_0, {}};
  }
};

/// v(x, t) of points and labels.
struct LabelledImpl : torch::nn::Module {
  LabelledImpl() {
    embedding = register_module("embedding", torch::nn::Embedding(10, 2));
    linear = register_module("linear", torch::nn::Linear(2, 2));
    to(test_device());
  }
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& t, const torch::Tensor& c) {
    return linear->forward(x + embedding->forward(c)) + t.unsqueeze(1);
  }
  torch::nn::Embedding embedding{nullptr};
  torch::nn::Linear linear{nullptr};
};
TORCH_MODULE(Labelled);

/// v(x, t) of images, without a label.
struct ImageImpl : torch::nn::Module {
  ImageImpl() {
    conv = register_module("conv", torch::nn::Conv2d(torch::nn::Conv2dOptions(1, 1, 3).padding(1)));
    to(test_device());
  }
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& t) {
    return conv->forward(x) + t.view({-1, 1, 1, 1});
  }
  torch::nn::Conv2d conv{nullptr};
};
TORCH_MODULE(Image);

/// A layer that is applied twice under two names.
struct TiedImpl : torch::nn::Module {
  TiedImpl() {
    first = register_module("first", torch::nn::Linear(2, 2));
    second = register_module("second", first);
    to(test_device());
  }
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor&) {
    return second->forward(first->forward(x).tanh());
  }
  torch::nn::Linear first{nullptr}, second{nullptr};
};

/// The weights after training an mlp with these options.
std::vector<at::Tensor> trained(fm::TrainOptions options) {
  networks::Mlp net = mlp();
  fm::Trainer(net, noisifier(), std::move(options)).fit(batches());
  return values(*net);
}

}  // namespace

TEST_CASE("trainer: brings a normal to another with the known velocity") {
  at::set_num_threads(1);  // quicker than several for a network this small
  const at::Tensor mu = on_device::tensor({0.6, -0.4}, torch::kFloat);
  const double s = 0.5;
  at::Tensor data = fm::Rng(1, test_device()).normal({8192, 2});
  data = (data - data.mean(0)) / data.std(0, false) * s + mu;

  at::manual_seed(2);
  networks::Mlp net(2, 64);
  fm::Trainer trainer(
      net, noisifier(),
      {.epochs = 80, .learning_rate = 1e-2, .schedule = fm::cosine_annealing(50), .seed = 3});
  const fm::TrainResult result = trainer.fit(fm::TensorBatches(data, 256));
  REQUIRE(result.steps == 80 * 32);

  const torch::NoGradGuard no_grad;
  net->eval();
  double error = 0;
  double size = 0;
  fm::Rng rng(4, test_device());
  for (int i = 0; i < 19; ++i) {
    const double t = 0.05 + 0.05 * i;
    const at::Tensor x = (1 - t) * rng.normal({4096, 2}) + t * (mu + s * rng.normal({4096, 2}));
    const double slope = (s * s * t - (1 - t)) / ((1 - t) * (1 - t) + s * s * t * t);
    const at::Tensor known = mu + slope * (x - t * mu);
    const at::Tensor v = net->forward(x, on_device::full({4096}, t));
    error += (v - known).square().sum().item<double>();
    size += known.square().sum().item<double>();
  }
  INFO("relative squared error " << error / size);
  REQUIRE(error / size <= 0.01);
}

TEST_CASE("trainer: the same seed gives the same bits and another seed others") {
  const fm::TrainOptions options{.epochs = 2, .seed = 7};
  REQUIRE(same_bits(trained(options), trained(options)));
  REQUIRE(!same_bits(trained(options), trained({.epochs = 2, .seed = 8})));
}

TEST_CASE("trainer: what is drawn before changes nothing without Dropout") {
  networks::Mlp a = mlp();
  fm::Trainer(a, noisifier()).fit(batches());
  networks::Mlp b = mlp();
  torch::rand({100}, test_device());
  fm::Trainer(b, noisifier()).fit(batches(), [](const fm::StepReport&) {
    torch::rand({3}, test_device());
  });
  REQUIRE(same_bits(*a, *b));
}

TEST_CASE("trainer: holder and shared_ptr and lvalue and reference train the module itself") {
  networks::Mlp holder = mlp();
  const at::Tensor weight = holder->parameters().front();
  const at::Tensor before = weight.detach().clone();
  fm::Trainer(holder, noisifier()).fit(batches());
  REQUIRE(!torch::equal(weight, before));

  const std::shared_ptr<networks::MlpImpl> shared = mlp().ptr();
  fm::Trainer(shared, noisifier()).fit(batches());
  REQUIRE(same_bits(*holder, *shared));

  at::manual_seed(1);
  networks::MlpImpl object(2, 16);
  fm::Trainer trainer(object, noisifier());
  trainer.fit(batches());
  REQUIRE(&trainer.module() == &object);
  REQUIRE(same_bits(*holder, object));

  at::manual_seed(1);
  networks::MlpImpl other(2, 16);
  fm::Trainer(std::ref(other), noisifier()).fit(batches());
  REQUIRE(same_bits(*holder, other));
}

TEST_CASE("trainer: it trains points and images with and without labels") {
  const auto changes = [](auto net, auto source) {
    const auto before = values(*net);
    const fm::TrainResult result = fm::Trainer(net, noisifier()).fit(source);
    REQUIRE(result.steps == source.batches_per_epoch());
    REQUIRE(std::isfinite(result.loss));
    REQUIRE(result.loss > 0);
    const auto after = values(*net);
    for (std::size_t i = 0; i < after.size(); ++i) {
      INFO("tensor " << i);
      REQUIRE(!torch::equal(before[i], after[i]));
    }
  };
  at::manual_seed(1);
  changes(mlp(), batches());
  changes(Labelled(), fm::TensorBatches(points(), torch::arange(48) % 10, 8));
  changes(Image(), fm::TensorBatches(fm::Rng(4).normal({24, 1, 4, 4}), 8));
  changes(conditional(), labelled_images());
}

TEST_CASE("trainer: accumulating two batches equals one batch of twice the size") {
  const auto train = [](std::int64_t batch_size, std::int64_t accumulate) {
    networks::Mlp net = mlp();
    net->to(torch::kDouble);
    fm::Trainer trainer(net, FixedNoisifier{},
                        {.epochs = 2,
                         .learning_rate = 0.1,
                         .optimizer = fm::sgd(0.9),
                         .schedule = fm::one_cycle(),
                         .accumulate = accumulate,
                         .asynchronous = false});
    std::vector<double> losses;
    const auto result = trainer.fit(fm::TensorBatches(points().to(torch::kDouble), batch_size),
                                    [&](const fm::StepReport& r) {
                                      losses.push_back(*r.loss);
                                      REQUIRE(r.samples == batch_size * accumulate);
                                      REQUIRE(r.total_steps == 6);
                                    });
    REQUIRE(result.steps == 6);
    auto all = values(*net);
    all.push_back(doubles(losses));
    return all;
  };
  const auto two_small = train(8, 2);
  const auto one_large = train(16, 1);
  for (std::size_t i = 0; i < two_small.size(); ++i)
    REQUIRE(close(two_small[i], one_large[i], 1e-12, 1e-13));
}

TEST_CASE("trainer: what is drawn for a batch does not depend on the batches a step takes") {
  const auto times = [](std::int64_t accumulate) {
    std::vector<at::Tensor> seen;
    const auto objective = [&seen](auto& model, const fm::Noised<>& noised) {
      seen.push_back(noised.t);
      return fm::PredictionLoss<>()(model, noised);
    };
    fm::TrainOptions options;
    options.accumulate = accumulate;
    fm::Trainer(mlp(), noisifier(), options, objective).fit(batches());
    return seen;
  };
  const std::vector<at::Tensor> alone = times(1);
  REQUIRE(alone.size() == 6);
  REQUIRE(!torch::equal(alone[0], alone[1]));
  for (const std::int64_t accumulate : {2, 4}) REQUIRE(same_bits(times(accumulate), alone));
}

TEST_CASE("trainer: batches that are left at an epoch's end make a step of their own") {
  std::vector<std::int64_t> samples;
  fm::Trainer trainer(mlp(), noisifier(), {.epochs = 2, .accumulate = 4});
  const auto result =
      trainer.fit(batches(), [&](const fm::StepReport& r) { samples.push_back(r.samples); });
  REQUIRE(samples == std::vector<std::int64_t>{32, 16, 32, 16});
  REQUIRE(result.steps == 4);
}

TEST_CASE("trainer: clip_norm bounds a step of gradient descent") {
  const auto step_length = [](double clip_norm) {
    networks::Mlp net = mlp();
    const auto before = values(*net);
    fm::Trainer trainer(net, noisifier(),
                        {.learning_rate = 1.0, .optimizer = fm::sgd(), .clip_norm = clip_norm});
    trainer.fit(fm::TensorBatches(points(), 48));
    const auto after = values(*net);
    double sum = 0;
    for (std::size_t i = 0; i < after.size(); ++i)
      sum += (after[i] - before[i]).square().sum().item<double>();
    return std::sqrt(sum);
  };
  REQUIRE(step_length(0) > 0.1);
  REQUIRE(step_length(1e-2) == Approx(1e-2).epsilon(1e-3));
  REQUIRE(step_length(1e6) == step_length(0));
}

TEST_CASE("trainer: frozen parameters stay and the others learn") {
  networks::Mlp net = mlp();
  auto parameters = net->parameters();
  parameters[0].set_requires_grad(false);
  parameters[1].set_requires_grad(false);
  const auto before = values(*net);
  fm::Trainer trainer(net, noisifier(),
                      {.optimizer = fm::adamw({.weight_decay = 0.5}), .ema_decay = 0.9});
  trainer.fit(batches());
  const auto after = values(*net);
  REQUIRE(torch::equal(after[0], before[0]));
  REQUIRE(torch::equal(after[1], before[1]));
  REQUIRE(!torch::equal(after[2], before[2]));
  REQUIRE(torch::equal(trainer.ema()->state().at("layers.0.weight"), before[0]));

  for (auto& p : net->parameters()) p.set_requires_grad(false);
  require_error<fm::OptionError>([&] { fm::Trainer(net, noisifier()); }, "no parameters to train");
}

TEST_CASE("trainer: a layer under two names takes one step at a time") {
  at::manual_seed(1);
  TiedImpl net;
  const auto before = net.first->bias.detach().clone();
  fm::Trainer trainer(net, noisifier(), {.learning_rate = 0.125, .ema_decay = 0.9});
  trainer.fit(fm::TensorBatches(points(), 48));
  // Adam's first step has the length of the learning rate in every coordinate.
  const at::Tensor step = (net.first->bias.detach() - before).abs();
  REQUIRE(close(step, on_device::full({2}, 0.125), 1e-3, 0));
  REQUIRE(trainer.optimizer().param_groups().front().params().size() == 2);
}

TEST_CASE("trainer: the learning rate and momentum follow the schedule") {
  std::vector<double> rates, momenta;
  fm::Trainer trainer(mlp(), noisifier(),
                      {.epochs = 2, .learning_rate = 0.02, .schedule = fm::one_cycle()});
  trainer.fit(batches(), [&](const fm::StepReport& r) {
    rates.push_back(r.learning_rate);
    const auto& options = trainer.optimizer().param_groups().front().options();
    const auto& adam = static_cast<const torch::optim::AdamOptions&>(options);
    REQUIRE(adam.lr() == r.learning_rate);
    momenta.push_back(std::get<0>(adam.betas()));
  });
  REQUIRE(rates.size() == 12);
  for (std::size_t i = 0; i < 12; ++i) {
    const fm::Rates expected = fm::one_cycle().at(static_cast<std::int64_t>(i), 12);
    REQUIRE(rates[i] == 0.02 * expected.factor);
    REQUIRE(momenta[i] == *expected.momentum);
  }
}

TEST_CASE("trainer: reports count steps and epochs and average the loss") {
  std::vector<fm::StepReport> steps;
  std::vector<fm::EpochReport> epochs;
  fm::Trainer trainer(mlp(), noisifier(), {.epochs = 2, .asynchronous = false});
  const fm::TrainResult result = trainer.fit(
      batches(), [&](const fm::StepReport& r) { steps.push_back(r); },
      [&](const fm::EpochReport& r) { epochs.push_back(r); });
  REQUIRE(steps.size() == 12);
  REQUIRE(epochs.size() == 2);
  for (std::size_t i = 0; i < 12; ++i) {
    REQUIRE(steps[i].step == static_cast<std::int64_t>(i) + 1);
    REQUIRE(steps[i].epoch == static_cast<std::int64_t>(i) / 6);
    REQUIRE(steps[i].epochs == 2);
    REQUIRE(steps[i].total_steps == 12);
    REQUIRE(steps[i].samples == 8);
    REQUIRE(steps[i].learning_rate == 1e-3);
    REQUIRE(steps[i].samples_per_second > 0);
  }
  double sum = 0;
  for (std::size_t i = 6; i < 12; ++i) sum += *steps[i].loss;
  REQUIRE(epochs[1].loss == Approx(sum / 6).epsilon(1e-12));
  REQUIRE(result.loss == epochs[1].loss);
  REQUIRE(epochs[0].loss != epochs[1].loss);
  REQUIRE(epochs[0].epoch == 0);
  REQUIRE(epochs[1].step == 12);
  REQUIRE(result.steps == 12);
  REQUIRE(!result.stopped);
  REQUIRE(result.seconds >= epochs[1].seconds);
}

TEST_CASE("trainer: steps that are recorded and replayed train as others do") {
  if (!test_device().is_cuda() || !fm::CudaGraph::available)
    return;  // without a GPU: refused, below
  // 22 points: an epoch ends with a smaller batch, which is not recorded.
  const auto losses = [](bool graph) {
    networks::Conditional net = conditional();
    std::vector<double> found;
    fm::Trainer trainer(net, noisifier(),
                        {.epochs = 6,
                         .clip_norm = 1,
                         .ema_decay = 0.9,
                         .cuda_graph = graph,
                         .asynchronous = false});
    fm::TensorBatches data(on_device::put(fm::Rng(4).normal({22, 1, 4, 4})),
                           on_device::arange(22) % 10, 4);
    trainer.fit(data, [&](const fm::StepReport& r) {
      found.push_back(*r.loss);
      if (r.step == 20) net->norm->eval();  // recorded anew
    });
    found.push_back(trainer.ema()->state().at("conv.weight").abs().sum().item<double>());
    found.push_back(net->norm->running_mean.sum().item<double>());
    return found;
  };
  const auto plain = losses(false), graph = losses(true);
  REQUIRE(plain.size() == graph.size());
  for (std::size_t i = 0; i < plain.size(); ++i) CHECK(graph[i] == Approx(plain[i]).epsilon(1e-4));
}

TEST_CASE("trainer: averages are kept when asked for and follow the weights") {
  REQUIRE(fm::Trainer(mlp(), noisifier()).ema() == nullptr);
  networks::Mlp net = mlp();
  fm::Trainer trainer(net, noisifier(), {.epochs = 2, .ema_decay = 0.9, .ema_warmup = false});
  at::Tensor average = net->parameters()[0].detach().clone();
  trainer.fit(batches(), [&](const fm::StepReport&) {
    average = torch::lerp(average, net->parameters()[0].detach(), 1 - 0.9);
  });
  REQUIRE(trainer.ema()->updates() == 12);
  REQUIRE(close(trainer.ema()->state().at("layers.0.weight"), average, 1e-6, 1e-7));
}

TEST_CASE("trainer: it trains in training mode and puts nothing else in the module") {
  networks::Mlp net = mlp();
  net->eval();
  fm::Trainer trainer(net, noisifier());
  REQUIRE(!net->is_training());
  trainer.fit(batches(), [&](const fm::StepReport&) { REQUIRE(net->is_training()); });
  REQUIRE(net->named_parameters().size() == 6);
}

TEST_CASE("trainer: options out of range are refused before anything happens") {
  const networks::Mlp net = mlp();
  const auto before = values(*net);
  require_error<fm::OptionError>(
      [&] { fm::Trainer(net, noisifier(), {.learning_rate = std::nan("")}); },
      "learning_rate is nan");
  require_error<fm::OptionError>([&] { fm::Trainer(net, noisifier(), {.optimizer = {}}); },
                                 "the optimizer factory made none");
  const fm::OptimizerFactory lbfgs{
      "lbfgs", [](std::vector<at::Tensor> parameters, double learning_rate) {
        return std::make_unique<torch::optim::LBFGS>(std::move(parameters),
                                                     torch::optim::LBFGSOptions(learning_rate));
      }};
  require_error<fm::OptionError>([&] { fm::Trainer(net, noisifier(), {.optimizer = lbfgs}); },
                                 "LBFGS");
  if (!test_device().is_cuda()) {
    require_error<fm::OptionError>([&] { fm::Trainer(net, noisifier(), {.cuda_graph = true}); },
                                   "the weights are not on one");
  }
  require_error<fm::OptionError>(
      [&] { fm::Trainer(net, noisifier(), {.accumulate = 2, .cuda_graph = true}); },
      "accumulate = 2");
  torch::nn::ReLU empty;
  require_error<fm::OptionError>([&] { fm::Trainer(empty, noisifier()); },
                                 "no parameters to train");
  REQUIRE(same_bits(before, values(*net)));
}

TEST_CASE("trainer: an objective of one's own is minimised") {
  const auto absolute = [](auto& model, const fm::Noised<>& noised) {
    return (fm::call_model(model, noised.x_t, noised.t) - noised.target).abs().mean();
  };
  networks::Mlp net = mlp();
  fm::Trainer trainer(net, noisifier(), fm::TrainOptions{.epochs = 80, .learning_rate = 1e-2},
                      absolute);
  std::vector<double> losses;
  trainer.fit(batches(), [&](const fm::EpochReport& r) { losses.push_back(r.loss); });
  REQUIRE(losses.back() < 0.97 * losses.front());
}

TEST_CASE("trainer: within a scope of averages it saves each where it belongs and trains nothing") {
  const TemporaryFolder folder;
  networks::Mlp net = mlp();
  const fm::TrainOptions options{
      .epochs = 2, .learning_rate = 0.01, .ema_decay = 0.99, .checkpoints = folder.path()};
  fm::Trainer trainer(net, noisifier(), options);
  std::vector<at::Tensor> weights;
  trainer.fit(batches(), [&](const fm::EpochReport& r) {
    weights = values(*net);
    const auto averaged = trainer.ema()->swap_in();
    REQUIRE(!same_bits(values(*net), weights));
    trainer.save(static_cast<double>(r.epoch));
    REQUIRE(!same_bits(values(*net), weights));  // still the averages
  });
  const auto scope = trainer.ema()->swap_in();
  require_error<fm::OptionError>([&] { trainer.fit(batches()); }, "the averages are in the module");
  require_error<fm::OptionError>([&] { trainer.resume(); }, "the averages are in the module");
  const auto found = fm::latest_checkpoint(folder.path());
  REQUIRE(same_bits(fm::read_state_dict(found->path / "ema.pt"), trainer.ema()->state()));
  REQUIRE(same_bits(fm::read_state_dict(found->path / "ema.pt"), fm::state_dict(*net)));

  networks::Mlp again = mlp(2);
  fm::Trainer resumed(again, noisifier(), options);
  REQUIRE(resumed.resume());
  REQUIRE(same_bits(values(*again), weights));
  REQUIRE(same_bits(resumed.ema()->state(), trainer.ema()->state()));
}

TEST_CASE("trainer: a scope that a hook leaves behind stops the run instead of mixing it up") {
  networks::Mlp net = mlp();
  fm::Trainer trainer(net, noisifier(), {.ema_decay = 0.99});
  std::optional<fm::Ema::Scope> left;
  require_error<fm::OptionError>(
      [&] {
        trainer.fit(batches(), [&](const fm::StepReport& r) {
          if (r.step == 3) left.emplace(*trainer.ema());
        });
      },
      "end the scope");
  REQUIRE(trainer.steps() == 3);
  left.reset();
  REQUIRE(trainer.fit(batches()).steps == 6);
}

TEST_CASE("trainer: a layer that is added later is refused with or without averages") {
  for (const double decay : {0.0, 0.9}) {
    const TemporaryFolder folder;
    networks::Mlp net = mlp();
    fm::Trainer trainer(net, noisifier(),
                        {.epochs = 2, .ema_decay = decay, .checkpoints = folder.path()});
    trainer.save();
    net->register_module("adapter", on_device::module(torch::nn::Linear(2, 2)));
    const auto refused = [](auto f) {
      require_error<fm::OptionError>(f, "parameter adapter.weight was added");
    };
    refused([&] { trainer.fit(batches()); });
    refused([&] { trainer.save(); });
    refused([&] { trainer.resume(); });
    net->unregister_module("adapter");
    // In the middle of a run, too.
    refused([&] {
      trainer.fit(batches(), [&](const fm::StepReport& r) {
        if (r.step == 2)
          net->register_module("adapter", on_device::module(torch::nn::Linear(2, 2)));
      });
    });
    REQUIRE(trainer.steps() == 2);
  }
}

TEST_CASE("trainer: groups keep their rates through a resumed run bit for bit") {
  const auto options = [](const std::filesystem::path& folder) {
    return fm::TrainOptions{
        .epochs = 2,
        .learning_rate = 0.02,
        .optimizer = fm::with_groups(fm::adamw(), {fm::norms_and_biases_without_decay(),
                                                   {.prefix = "layers.0", .rate_factor = 0.25}}),
        .schedule = fm::one_cycle(),
        .checkpoints = folder};
  };
  const TemporaryFolder whole_folder, cut_folder;
  networks::Mlp whole = mlp();
  fm::Trainer straight(whole, noisifier(), options(whole_folder.path()));
  std::vector<double> rates;
  straight.fit(batches(), [&](const fm::StepReport& r) {
    rates = {};
    for (auto& group : straight.optimizer().param_groups())
      rates.push_back(group.options().get_lr() / r.learning_rate);
  });
  REQUIRE(rates.size() == 3);
  REQUIRE(rates[0] == Approx(1));
  REQUIRE(rates[1] == Approx(0.25));
  REQUIRE(rates[2] == Approx(1));

  networks::Mlp cut = mlp();
  fm::Trainer(cut, noisifier(), options(cut_folder.path())).fit(batches(), stop_after(4));
  networks::Mlp rest = mlp(7);
  fm::Trainer resumed(rest, noisifier(), options(cut_folder.path()));
  REQUIRE(resumed.resume());
  resumed.fit(batches());
  REQUIRE(same_bits(*rest, *whole));
  fm::TrainOptions others = options(cut_folder.path());
  others.optimizer = fm::adamw();
  fm::Trainer other(rest, noisifier(), others);
  require_error<fm::OptionError>([&] { other.resume(); }, "optimizer: adamw");
}

TEST_CASE("trainer: within a scope of the caller's own averages it saves and trains no averages") {
  for (const double decay : {0.0, 0.9}) {
    const TemporaryFolder folder;
    networks::Mlp net = mlp();
    const fm::TrainOptions options{
        .epochs = 2, .learning_rate = 0.01, .ema_decay = decay, .checkpoints = folder.path()};
    fm::Trainer trainer(net, noisifier(), options);
    fm::Ema own(*net, 0.99);
    std::vector<at::Tensor> weights;
    trainer.fit(
        batches(), [&](const fm::StepReport&) { own.update(); },
        [&](const fm::EpochReport&) {
          weights = values(*net);
          const auto averaged = own.swap_in();
          REQUIRE(!same_bits(values(*net), weights));
          trainer.save(1.0);
          REQUIRE(!same_bits(values(*net), weights));  // still the averages
        });
    const fm::StateDict averages = own.state();
    {
      const auto averaged = own.swap_in();
      require_error<fm::OptionError>([&] { trainer.fit(batches()); }, "end the scope");
      require_error<fm::OptionError>([&] { trainer.resume(); }, "end the scope");
    }
    REQUIRE(same_bits(own.state(), averages));
    REQUIRE(same_bits(values(*net), weights));
    networks::Mlp again = mlp(2);
    fm::Trainer resumed(again, noisifier(), options);
    REQUIRE(resumed.resume());
    REQUIRE(same_bits(values(*again), weights));
    if (decay > 0) REQUIRE(same_bits(resumed.ema()->state(), trainer.ema()->state()));
  }
}

TEST_CASE("trainer: samples of averages under InferenceMode leave them fit to be trained on") {
  networks::Mlp net = mlp(), other = mlp();
  const fm::TrainOptions options{.epochs = 2, .ema_decay = 0.9};
  fm::Trainer trainer(net, noisifier(), options), plain(other, noisifier(), options);
  trainer.fit(batches(), [&](const fm::StepReport&) {
    const c10::InferenceMode inference;
    const auto averaged = trainer.ema()->swap_in();
    net->forward(on_device::ones({1, 2}), on_device::zeros({1}));
  });
  plain.fit(batches());
  REQUIRE(same_bits(*net, *other));
  REQUIRE(same_bits(trainer.ema()->state(), plain.ema()->state()));
}

TEST_CASE("trainer: a module with a sparse buffer is refused by the buffer's name", "[sparse]") {
  networks::Mlp net = mlp();
  net->register_buffer("graph", on_device::eye(3).to_sparse());
  require_error<fm::OptionError>([&] { fm::Trainer(net, noisifier(), fm::TrainOptions{}); },
                                 "the module's graph is sparse");
}

TEST_CASE("trainer: an empty holder is refused with the remedy") {
  networks::Mlp none{nullptr};
  require_error<fm::OptionError>([&] { fm::Trainer(none, noisifier(), fm::TrainOptions{}); },
                                 "construct the network first");
}

TEST_CASE("trainer: a mask of -inf is trained with and kept as a frozen parameter") {
  struct MaskedImpl : networks::MlpImpl {
    MaskedImpl() : networks::MlpImpl(2, 16) {
      mask = register_parameter("mask", on_device::full({2, 2}, -infinity).triu(1), false);
    }
    at::Tensor forward(const at::Tensor& x, const at::Tensor& t) {
      return at::matmul(networks::MlpImpl::forward(x, t), at::softmax(mask, 1));
    }
    at::Tensor mask;
  };
  const TemporaryFolder folder;
  const auto net = std::make_shared<MaskedImpl>(), again = std::make_shared<MaskedImpl>();
  const fm::TrainOptions options{.epochs = 1, .ema_decay = 0.9, .checkpoints = folder.path()};
  fm::Trainer(net, noisifier(), options).fit(batches());
  REQUIRE(torch::equal(net->mask, on_device::full({2, 2}, -infinity).triu(1)));
  fm::Trainer resumed(again, noisifier(), options);
  REQUIRE(resumed.resume());
  REQUIRE(same_bits(*net, *again));
  resumed.save(0.5);
}

TEST_CASE("trainer: it trains also where the caller wants no gradients") {
  const auto train = [] {
    networks::Mlp net = mlp();
    bool with_gradients = false;
    fm::Trainer(net, noisifier()).fit(batches(), [&](const fm::EpochReport&) {
      with_gradients = at::GradMode::is_enabled();
    });
    CHECK(with_gradients);
    return values(*net);
  };
  const auto expected = train();
  {
    const at::NoGradGuard guard;
    CHECK(same_bits(train(), expected));
    CHECK_FALSE(at::GradMode::is_enabled());
  }
  networks::Mlp net = mlp();
  fm::Trainer trainer(net, noisifier());
  auto source = batches();
  {
    const c10::InferenceMode guard;
    trainer.fit(source);
  }
  CHECK(same_bits(values(*net), expected));
}

TEST_CASE("trainer: where a device's memory is used up the error says what to do") {
  networks::Mlp net = mlp();
  const auto before = values(*net);
  const auto full = [](networks::Mlp& model, const fm::Noised<>& noised) {
    if (noised.x_t.size(0) > 4) TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory");
    return model->forward(noised.x_t, noised.t).square().mean();
  };
  fm::Trainer trainer(net, noisifier(), {}, full);
  fm::TensorBatches eight = batches();
  require_error<fm::MemoryError>([&] { trainer.fit(eight); }, "a batch of 8 samples");
  REQUIRE(same_bits(before, values(*net)));
  REQUIRE(trainer.fit(fm::TensorBatches(points(), 4)).steps == 12);
}

TEST_CASE("trainer: a loss without a gradient is refused and the weights stay") {
  networks::Mlp net = mlp();
  const auto before = values(*net);
  const auto detached = [](auto& model, const fm::Noised<>& noised) {
    return fm::PredictionLoss<>()(model, noised).detach();
  };
  fm::Trainer trainer(net, noisifier(), fm::TrainOptions{}, detached);
  require_error<fm::OptionError>([&] { trainer.fit(batches()); }, "the objective's loss has no");
  CHECK(same_bits(values(*net), before));
}

TEST_CASE("trainer: reports tell the rate that the optimizer has") {
  fm::TrainOptions options{.learning_rate = 0.25, .schedule = fm::warmup_constant(2)};
  fm::Trainer trainer(mlp(), noisifier(), options);
  trainer.optimizer().param_groups()[0].options().set_lr(0.5);
  std::vector<double> rates;
  trainer.fit(batches(), [&](const fm::StepReport& r) { rates.push_back(r.learning_rate); });
  CHECK(rates == std::vector<double>{0.25, 0.5, 0.5, 0.5, 0.5, 0.5});
  options.optimizer = fm::with_groups(fm::adam(), {{.prefix = "layers.0", .rate_factor = 0.5}});
  fm::Trainer grouped(mlp(), noisifier(), options);
  rates.clear();
  grouped.fit(batches(), [&](const fm::StepReport& r) { rates.push_back(r.learning_rate); });
  CHECK(rates == std::vector<double>{0.125, 0.25, 0.25, 0.25, 0.25, 0.25});
}
