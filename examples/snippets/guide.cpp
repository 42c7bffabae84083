// Snippets of docs/quick-start.md, concepts.md, training.md, monitoring.md, data.md and gpu.md,
// compiled and run.

#include <torch/script.h>
#include <torch/torch.h>

#include <filesystem>
#include <flowmatch/flowmatch.hpp>
#include <iostream>

namespace fm = flowmatch;

struct NetImpl : torch::nn::Module {
  torch::nn::Linear layer{torch::nn::Linear(3, 2)};
  torch::nn::Embedding classes{torch::nn::Embedding(10, 2)};
  NetImpl() {
    register_module("layer", layer);
    register_module("classes", classes);
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t, const at::Tensor& label) {
    return layer->forward(at::cat({x, t.unsqueeze(1)}, 1)) + classes->forward(label);
  }
};
TORCH_MODULE(Net);

// A condition of one's own: a class and a temperature.
struct Weather {
  at::Tensor kind;         // int64 [B]
  at::Tensor temperature;  // float [B]
};

template <>
struct flowmatch::condition_traits<Weather> {
  static std::int64_t size(const Weather& w) { return w.kind.size(0); }
  static Weather index_select(const Weather& w, const at::Tensor& index) {
    return {w.kind.index_select(0, index), w.temperature.index_select(0, index)};
  }
  static Weather repeat_interleave(const Weather& w, std::int64_t n) {
    return {w.kind.repeat_interleave(n), w.temperature.repeat_interleave(n)};
  }
  static Weather cat(const std::vector<Weather>& parts) {
    std::vector<at::Tensor> kinds, temperatures;
    for (const Weather& w : parts) {
      kinds.push_back(w.kind);
      temperatures.push_back(w.temperature);
    }
    return {at::cat(kinds), at::cat(temperatures)};
  }
  static Weather to(const Weather& w, c10::Device device) {
    return {w.kind.to(device), w.temperature.to(device)};
  }
};

// A network that predicts the noise instead of the velocity.
struct NoiseNetImpl : torch::nn::Module {
  torch::nn::Linear layer{torch::nn::Linear(3, 2)};
  NoiseNetImpl() { register_module("layer", layer); }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t) {
    return layer->forward(at::cat({x, t.unsqueeze(1)}, 1));
  }
};
TORCH_MODULE(NoiseNet);

struct Guided {  // by a weaker network
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& t) {
    return 2 * fm::call_model(strong, x, t) - fm::call_model(weak, x, t);
  }
  auto models() { return std::tie(strong, weak); }
  NoiseNet strong, weak;
};

// Training with a table, TensorBoard, validation and early stopping.
void watch(Net net, const at::Tensor& data, const at::Tensor& labels,
           const std::filesystem::path& run) {
  fm::Trainer trainer(net, fm::VelocityNoisifier(fm::LinearPath{}),
                      {.epochs = 5, .ema_decay = 0.99});
  const at::Tensor held_out = data.slice(0, 0, 128), held_out_labels = labels.slice(0, 0, 128);
  fm::MetricsLog table(run / "metrics.csv", trainer.steps());
  fm::TensorBoardLog board(run / "tensorboard", trainer.steps());
  fm::Validation validation(net, fm::VelocityNoisifier(fm::LinearPath{}),
                            fm::TensorBatches(held_out, held_out_labels, 64, {.shuffle = false}),
                            {.seed = 1, .ema = trainer.ema()});
  fm::EarlyStopping stopping(3);  // after three epochs without a lower loss
  trainer.fit(fm::TensorBatches(data, labels, 64), table, board, [&](const fm::EpochReport& r) {
    const double loss = validation();
    board.writer().scalar("validation/loss", loss, r.step);
    return stopping(loss);
  });
}

// docs/gpu.md
void train_on_a_gpu(Net net, const at::Tensor& images, const at::Tensor& labels) {
  net->to(torch::kCUDA);
  fm::TrainOptions options;
  options.precision = fm::Precision::bfloat16;  // autocast; weights stay float32
  options.channels_last = true;                 // for networks of convolutions
  options.cuda_graph = true;                    // see below
  fm::Trainer trainer(net, fm::VelocityNoisifier(fm::LinearPath{}), options);
  trainer.fit(fm::TensorBatches(images.to(torch::kCUDA), labels.to(torch::kCUDA), 512));

  fm::CudaGraphed fast(net);
  fm::Sampler sampler(fast, fm::ode::Euler{}, fm::TimeGrid::uniform(20));
}

int main() {
  const std::filesystem::path run = std::filesystem::temp_directory_path() / "flowmatch-guide-run";
  std::filesystem::remove_all(run);
  const at::Tensor data = torch::randn({512, 2});
  const at::Tensor labels = torch::randint(10, {512});

  Net net;
  fm::TrainOptions options;
  options.epochs = 2;
  options.learning_rate = 1e-3;
  options.schedule = fm::one_cycle();
  options.clip_norm = 1.0;
  options.ema_decay = 0.999;
  options.checkpoints = run;
  fm::Trainer trainer(net, fm::VelocityNoisifier(fm::LinearPath{}), options);
  trainer.resume();  // goes on from the newest checkpoint, if there is one
  trainer.fit(fm::TensorBatches(data, labels, 64), [](const fm::StepReport& step) {
    return step.loss > 1e3 ? fm::Next::stop : fm::Next::proceed;
  });

  fm::Rng rng(7);
  const at::Tensor classes = at::arange(10, at::kLong);
  at::Tensor samples;
  {
    const auto averaged = trainer.ema()->swap_in();
    samples = fm::Sampler(net, fm::ode::Midpoint{}, fm::TimeGrid::uniform(20))
                  .sample({10, 2}, rng, classes);
  }

  fm::TrainOptions grouped;
  grouped.optimizer = fm::with_groups(fm::adamw(), {fm::norms_and_biases_without_decay(),
                                                    {.prefix = "classes.", .rate_factor = 0.1}});
  fm::Trainer(net, fm::VelocityNoisifier(fm::LinearPath{}), grouped)
      .fit(fm::TensorBatches(data, labels, 64));

  fm::Sampler adaptive(net, fm::ode::Dopri5{}, fm::AdaptiveOptions{.rtol = 1e-5, .atol = 1e-5});
  const fm::SampleResult result = adaptive.solve(rng.normal({10, 2}), classes);
  std::cout << result.statistics.evaluations << " evaluations\n";

  fm::Sampler heun(net, fm::ode::Heun2{}, fm::TimeGrid::uniform(9, 0, 0.9), {.final_step = 0.1});
  std::cout << heun.solve(rng.normal({10, 2}), classes).statistics.evaluations << " of Heun's\n";
  fm::Sampler noisy(net, fm::DpmSolver<2>{}, fm::TimeGrid::shifted(19, 2, 0, 0.97),
                    {.final_step = 0.03});
  samples = noisy.sample({10, 2}, rng, classes);

  const auto each =
      fm::odeint_per_sample([&](const at::Tensor& x, const at::Tensor& t,
                                const at::Tensor& label) { return net->forward(x, t, label); },
                            rng.normal({10, 2}), {0, 1}, classes);
  std::cout << each.statistics.evaluations << " evaluations for 10 samples\n";

  const auto field = [&](const at::Tensor& x, double t) {
    return net->forward(x, at::full({10}, t), classes);
  };
  const at::Tensor ends =
      fm::odeint_adjoint(field, samples, at::tensor({0.0, 1.0}, at::kDouble), net->parameters());
  ends[1].square().mean().backward();

  fm::Likelihood likelihood(net, fm::ode::Dopri5{},
                            fm::AdaptiveOptions{.rtol = 1e-5, .atol = 1e-5});
  const fm::LikelihoodResult density = likelihood.log_prob(samples, classes);
  std::cout << "log p(x) on average: " << density.log_prob.mean().item<double>() << '\n';

  std::array<double, 2> ball = {10, 0};  // height, speed
  const auto fall = [](const auto& s, double) { return std::array<double, 2>{s[1], -9.81}; };
  const fm::ode::Event<std::array<double, 2>> lands{[](double, const auto& s) { return s[0]; }};
  const auto flight = fm::ode::integrate_events(fm::ode::Dopri5{}, fall, ball, 0, 100, {lands}, {});
  std::cout << "lands at " << flight.hits.front().t << '\n';

  fm::Sampler fast(net, fm::ode::Euler{}, fm::TimeGrid::uniform(100), {.parallel = true});

  auto velocity = [](const at::Tensor& x, const at::Tensor&, const Weather& weather) {
    return weather.temperature.unsqueeze(1) - x;
  };
  const Weather weather{classes, at::ones({10})};
  samples = fm::Sampler(velocity, fm::ode::RK4{}, fm::TimeGrid::uniform(10))
                .sample({10, 2}, rng, weather);

  NoiseNet noise_net;
  fm::PathNoisifier noise_target(fm::CosinePath{}, fm::EpsilonTarget{});
  fm::Trainer(noise_net, noise_target, {.epochs = 1}).fit(fm::TensorBatches(data, 64));
  fm::Sampler noise_sampler(fm::VelocityFromEpsilon(noise_net, fm::CosineScheduler{}),
                            fm::ode::Heun2{}, fm::TimeGrid::uniform(20));
  samples = noise_sampler.sample({10, 2}, rng);

  fm::Rescheduled straight(fm::VelocityFromEpsilon(noise_net, fm::CosineScheduler{}),
                           fm::CosineScheduler{}, fm::CondOTScheduler{});
  samples =
      fm::Sampler(straight, fm::DpmSolver<2>{}, fm::TimeGrid::shifted(20, 2)).sample({10, 2}, rng);

  samples = fm::Sampler(Guided{}, fm::ode::Heun2{}, fm::TimeGrid::uniform(10)).sample({10, 2}, rng);

  torch::jit::Module script("scripted");
  script.define("def forward(self, x, t):\n  return -x * t.unsqueeze(1)\n");
  auto scripted = [&script](const at::Tensor& x, const at::Tensor& t) {
    return script.forward({x, t}).toTensor();
  };
  samples = fm::Sampler(scripted, fm::ode::Euler{}, fm::TimeGrid::uniform(10)).sample({10, 2}, rng);

  const auto decay = [](const at::Tensor& x, double t) { return -t * x; };
  const fm::OdeResult path = fm::odeint(decay, at::ones({3}), {0, 0.5, 1}, fm::ode::Dopri5{});
  std::cout << "x(1) = " << path.x[2][0].item<double>() << '\n';

  watch(net, data, labels, run);
  if (torch::cuda::is_available() && fm::CudaGraph::available) train_on_a_gpu(net, data, labels);

  fm::save_npy(run / "bytes.npy", torch::randint(256, {512, 2}, at::kByte));
  fm::Transformed floats(fm::TensorBatches(fm::map_npy(run / "bytes.npy"), 64),
                         [](const at::Tensor& x) { return x.to(at::kFloat) / 127.5 - 1; });
  fm::Prefetch ahead(std::move(floats));
  fm::Trainer(noise_net, noise_target, {.epochs = 1}).fit(ahead);

  std::filesystem::remove_all(run);
  return samples.sizes() == at::IntArrayRef{10, 2} ? 0 : 1;
}
