// The work whose speed is compared with Python's (speed.py, compare.py): one task a call.
//   speed train_mlp|euler|dopri5 WIDTH BATCH
//   speed train_unet small|paper BATCH
//   speed sample_unet small|paper BATCH
//   speed train_unet_bfloat16|sample_unet_bfloat16 small|paper BATCH     (under autocast)
//   speed first_sample        (its time is that of the process)
//   speed roofline
// Then [SECONDS [THREADS]]: about how long to measure, and LibTorch's threads, its default without.
// Prints JSON: "value" in "unit" (median), "spread" (of the middle half, relative), peak memory in
// MB, and evaluations where a solve chooses their number. All options are the library's defaults.

#include <fmt/format.h>
#include <sys/resource.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <flowmatch/flowmatch.hpp>
#include <iostream>
#include <string>
#include <vector>

#include "examples/fashion_mnist/unet.hpp"
#include "examples/support/machine.hpp"

namespace fm = flowmatch;
using Seconds = std::chrono::duration<double>;

namespace {

/// Four hidden layers, as a newcomer writes them.
struct NetImpl : torch::nn::Module {
  explicit NetImpl(std::int64_t width) {
    using torch::nn::Linear, torch::nn::SiLU;
    layers = register_module(
        "layers", torch::nn::Sequential(Linear(3, width), SiLU(), Linear(width, width), SiLU(),
                                        Linear(width, width), SiLU(), Linear(width, width), SiLU(),
                                        Linear(width, 2)));
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t) {
    return layers->forward(at::cat({x, t.unsqueeze(1)}, 1));
  }
  torch::nn::Sequential layers{nullptr};
};
TORCH_MODULE(Net);

struct Task {
  std::string name, first;
  std::int64_t batch;
  double seconds;
  fm::Precision precision() const {
    return name.ends_with("bfloat16") ? fm::Precision::bfloat16 : fm::Precision::float32;
  }
};

/// What was measured, in seconds.
class Times {
 public:
  void add(double seconds) { all_.push_back(seconds); }
  double at(double share) {
    std::sort(all_.begin(), all_.end());
    return all_[static_cast<std::size_t>(share * static_cast<double>(all_.size() - 1))];
  }
  double spread() { return (at(0.75) - at(0.25)) / at(0.5); }

 private:
  std::vector<double> all_{};
};

/// f again and again, for that long and five times at least, after one to warm up.
template <class F>
Times repeat(double seconds, const F& f) {
  f();
  Times times;
  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < 5 || Seconds(std::chrono::steady_clock::now() - began).count() < seconds;
       ++i) {
    const auto start = std::chrono::steady_clock::now();
    f();
    times.add(Seconds(std::chrono::steady_clock::now() - start).count());
  }
  return times;
}

void print(double value, const char* unit, Times& times, std::int64_t evaluations = 0) {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::cout
      << fmt::format(
             R"({{"value": {}, "unit": "{}", "spread": {}, "memory": {}, "evaluations": {}}})",
             value, unit, times.spread(), usage.ru_maxrss / 1024, evaluations)
      << std::endl;
}

/// Steps of training until the time is up, by the trainer: the median of groups of steps.
template <class Model, class Data>
void train(Model& net, Data data, fm::TrainOptions options, const Task& task, std::int64_t group,
           const char* unit, double each) {
  options.epochs = 1000000;
  fm::Trainer trainer(net, fm::VelocityNoisifier(fm::LinearPath{}), options);
  Times times;
  const auto began = std::chrono::steady_clock::now();
  auto last = began;
  trainer.fit(data, [&](const fm::StepReport& r) {
    if (r.step % group != 0) return fm::Next::proceed;
    const auto now = std::chrono::steady_clock::now();
    if (r.step > group) times.add(Seconds(now - last).count() / static_cast<double>(group));
    last = now;
    const bool enough = r.step > 5 * group && Seconds(now - began).count() > task.seconds;
    return enough ? fm::Next::stop : fm::Next::proceed;
  });
  print(each / times.at(0.5), unit, times);
}

void train_mlp(const Task& task) {
  Net net(std::stoll(task.first));
  const std::int64_t group = std::max<std::int64_t>(1, 50000 / task.batch);
  train(net, fm::TensorBatches(torch::randn({100 * task.batch, 2}), task.batch), {}, task, group,
        "steps/s", 1);
}

void train_unet(const Task& task) {
  fashion_mnist::UNet net(fashion_mnist::UNetOptions::named(task.first));
  const fm::TensorBatches data(torch::randn({10 * task.batch, 1, 32, 32}),
                               torch::randint(10, {10 * task.batch}, torch::kLong), task.batch);
  train(net, data, {.precision = task.precision(), .channels_last = true}, task, 1, "images/s",
        static_cast<double>(task.batch));
}

void sample_mlp(const Task& task) {
  Net net(std::stoll(task.first));
  fm::Rng rng(1);
  const at::Tensor x_0 = rng.normal({task.batch, 2});
  if (task.name == "dopri5") {
    fm::Sampler sampler(net, fm::ode::Dopri5{}, fm::AdaptiveOptions{.rtol = 1e-5, .atol = 1e-5});
    Times times = repeat(task.seconds, [&] { sampler.sample_from(x_0); });
    print(times.at(0.5) * 1e3, "ms", times, sampler.solve(x_0).statistics.evaluations);
  } else {
    const int steps = task.batch == 1 ? 50 : 100;
    fm::Sampler sampler(net, fm::ode::Euler{}, fm::TimeGrid::uniform(steps));
    Times times = repeat(task.seconds, [&] { sampler.sample_from(x_0); });
    print(times.at(0.5) * 1e3, "ms", times, steps);
  }
}

void sample_unet(const Task& task) {
  fashion_mnist::UNet net(fashion_mnist::UNetOptions::named(task.first));
  fm::to_channels_last(*net);
  fm::Rng rng(1);
  const at::Tensor x_0 = rng.normal({task.batch, 1, 32, 32});
  const at::Tensor labels = torch::arange(task.batch) % 10;
  fm::Sampler sampler(net, fm::ode::Euler{}, fm::TimeGrid::uniform(10));
  const fm::AutocastScope scope(task.precision(), c10::kCPU);
  Times times = repeat(task.seconds, [&] { sampler.sample_from(x_0, labels); });
  print(times.at(0.5) * 1e3, "ms", times, 10);
}

void first_sample() {
  Net net(64);
  fm::Sampler sampler(net, fm::ode::Euler{}, fm::TimeGrid::uniform(100));
  fm::Rng rng(1);
  std::cout << sampler.sample({256, 2}, rng).slice(0, 0, 1) << std::endl;
}

/// What matrix products and convolutions of the machine come to at their best.
void roofline(const Task& task) {
  const at::NoGradGuard no_grad;
  const at::Tensor a = torch::randn({2048, 2048}), b = torch::randn({2048, 2048});
  Times products = repeat(task.seconds / 2, [&] { at::mm(a, b); });
  const auto x = torch::randn({64, 128, 16, 16}).contiguous(at::MemoryFormat::ChannelsLast);
  const auto w = torch::randn({128, 128, 3, 3}).contiguous(at::MemoryFormat::ChannelsLast);
  Times convolutions = repeat(task.seconds / 2, [&] { at::conv2d(x, w, {}, 1, 1); });
  const double product = 2 * std::pow(2048.0, 3) / 1e9;
  const double convolution = 2.0 * 64 * 16 * 16 * 9 * 128 * 128 / 1e9;
  std::cout << fmt::format(R"({{"sgemm": {}, "convolution": {}, "unit": "GFLOP/s"}})",
                           product / products.at(0.5), convolution / convolutions.at(0.5))
            << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  const auto word = [&](std::size_t i, const char* otherwise) {
    return i < words.size() ? words[i] : std::string(otherwise);
  };
  const std::string name = word(0, "");
  const std::size_t shape = name == "first_sample" || name == "roofline" ? 0 : 2;
  const Task task{name, word(1, "64"), shape > 0 ? std::stoll(word(2, "256")) : 0,
                  std::stod(word(1 + shape, "3"))};
  const int threads = std::stoi(word(2 + shape, "0"));
  if (name.find("unet") != std::string::npos) {
    support::set_up_machine(threads);  // as the example programs do
  } else if (threads > 0) {
    at::set_num_threads(threads);
  }
  torch::manual_seed(0);
  if (name == "train_mlp") {
    train_mlp(task);
  } else if (name == "euler" || name == "dopri5") {
    sample_mlp(task);
  } else if (name.starts_with("train_unet")) {
    train_unet(task);
  } else if (name.starts_with("sample_unet")) {
    sample_unet(task);
  } else if (name == "first_sample") {
    first_sample();
  } else if (name == "roofline") {
    roofline(task);
  } else {
    std::cerr << "there is no task '" << name << "'; the first lines of speed.cpp name them\n";
    return 2;
  }
}
