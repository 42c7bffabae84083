// What tests/gpu/check.sh measures and proves on a GPU with the Fashion-MNIST UNet:
//   gpu_check train --model paper --precision bfloat16 --graph     images/s, peak memory
//   gpu_check sample --model paper --graph --n 10000,16,1          seconds for 20 evaluations
//   gpu_check agree      replayed steps and samples are those of the plain program
//   gpu_check waits      nothing waits for the device between two looks at the loss
//   gpu_check resume     a run that is resumed ends with the same bits
// Each result is a line of JSON on the standard output. Exits with 1 where something is wrong.

#include <ATen/Context.h>
#include <fmt/format.h>
#include <torch/cuda.h>
#include <torch/version.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#if defined(FLOWMATCH_CUDA)
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#endif

#include "examples/fashion_mnist/recipe.hpp"
#include "examples/fashion_mnist/unet.hpp"
#include "examples/support/machine.hpp"
#include "examples/support/run_main.hpp"
#include "flowmatch/data/tensor_batches.hpp"
#include "flowmatch/model/channels_last.hpp"
#include "flowmatch/model/cuda_graphed.hpp"
#include "flowmatch/noisify/noisifier.hpp"
#include "flowmatch/ode/runge_kutta.hpp"
#include "flowmatch/path/affine.hpp"
#include "flowmatch/sample/sampler.hpp"
#include "flowmatch/train/trainer.hpp"

using namespace fashion_mnist;
namespace fs = std::filesystem;

struct Options {
  std::string device = "cuda";
  std::string model = "paper";
  std::string precision = "bfloat16";
  bool graph = false;
  std::int64_t batch = 512;
  std::int64_t steps = 40;
  std::int64_t images = 60000;
  std::vector<std::int64_t> n = {10000, 16, 1};

  c10::Device at() const { return support::parse_device(device); }
};

void wait(c10::Device device) {
  if (device.is_cuda()) torch::cuda::synchronize();
}

double seconds_of(c10::Device device, const auto& f) {
  wait(device);
  const auto began = std::chrono::steady_clock::now();
  f();
  wait(device);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

/// Memory counts from here.
void reset_memory([[maybe_unused]] c10::Device device) {
#if defined(FLOWMATCH_CUDA)
  if (!device.is_cuda()) return;
  c10::cuda::CUDACachingAllocator::emptyCache();
  c10::cuda::CUDACachingAllocator::resetPeakStats(device.index());
#endif
}

std::string memory([[maybe_unused]] c10::Device device) {
#if defined(FLOWMATCH_CUDA)
  if (device.is_cuda()) {
    const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(device.index());
    const auto mb = [](const auto& stat) { return static_cast<double>(stat[0].peak) / (1 << 20); };
    return fmt::format(R"(, "peak_allocated_mb": {:.1f}, "peak_reserved_mb": {:.1f})",
                       mb(stats.allocated_bytes), mb(stats.reserved_bytes));
  }
#endif
  return "";
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void report(const Options& o, const std::string& name, const std::string& figures) {
  std::cout
      << fmt::format(
             R"({{"who": "flowmatch", "name": "{}", "model": "{}", "precision": "{}", "graph": {}, "device": "{}", "libtorch": "{}"{}}})",
             name, o.model, o.precision, o.graph, o.device, TORCH_VERSION, figures)
      << std::endl;
}

UNet network(const Options& o) {
  at::manual_seed(0);
  UNet net(UNetOptions::named(o.model));
  net->to(o.at());
  fm::to_channels_last(*net);
  return net;
}

fm::TensorBatches<at::Tensor> data(const Options& o, std::int64_t batches) {
  fm::Rng rng(3, o.at());
  const std::int64_t n = batches > 0 ? batches * o.batch : o.images;
  const at::Tensor labels = at::arange(n, at::TensorOptions(at::kLong).device(o.at())) % 10;
  return fm::TensorBatches(rng.uniform({n, 1, 32, 32}) - 0.5, labels, o.batch,
                           {.last_batch = fm::LastBatch::drop});
}

/// The post's training, without end.
fm::TrainOptions training(const Options& o) {
  Recipe recipe;
  recipe.epochs = 1000;
  fm::TrainOptions options = train_options(recipe);
  options.precision = support::parse_precision(o.precision);
  options.channels_last = true;
  options.cuda_graph = o.graph;
  return options;
}

fm::VelocityNoisifier<fm::LinearPath> noisifier() {
  return fm::VelocityNoisifier(fm::LinearPath{});
}

int train(const Options& o) {
  UNet net = network(o);
  fm::TensorBatches batches = data(o, 0);
  constexpr std::int64_t blocks = 5;
  const std::int64_t warm_up = 2 * fm::StepGraph<fm::Noised<at::Tensor>>::warm_up + 4;
  fm::TrainOptions options = training(o);
  std::vector<double> seconds;
  auto began = std::chrono::steady_clock::now();
  fm::Trainer trainer(net, noisifier(), options);
  trainer.fit(batches, [&](const fm::StepReport& r) {
    if (r.step < warm_up) return fm::Next::proceed;
    if ((r.step - warm_up) % o.steps == 0) {
      wait(o.at());
      const auto now = std::chrono::steady_clock::now();
      if (r.step == warm_up) {
        reset_memory(o.at());
      } else {
        seconds.push_back(std::chrono::duration<double>(now - began).count());
      }
      began = std::chrono::steady_clock::now();
    }
    return r.step == warm_up + blocks * o.steps ? fm::Next::stop : fm::Next::proceed;
  });
  const double images = static_cast<double>(o.batch * o.steps);
  report(o, "train",
         fmt::format(
             R"(, "batch": {}, "images_per_s": {:.1f}, "slowest": {:.1f}, "fastest": {:.1f}{})",
             o.batch, images / median(seconds),
             images / *std::max_element(seconds.begin(), seconds.end()),
             images / *std::min_element(seconds.begin(), seconds.end()), memory(o.at())));
  return support::success;
}

constexpr std::int64_t evaluations = 20;

/// Samples by `steps` of Euler's, 1,000 at a time.
at::Tensor draw(const Options& o, auto& model, std::int64_t n) {
  fm::Rng rng(5, o.at());
  const at::Tensor labels = at::arange(n, at::TensorOptions(at::kLong).device(o.at())) % 10;
  fm::Sampler sampler(model, flowmatch::ode::Euler{}, fm::TimeGrid::uniform(evaluations),
                      {.batch_size = 1000});
  return sampler.sample({n, 1, 32, 32}, rng, labels);
}

int sample(const Options& o) {
  UNet net = network(o);
  if (o.precision != "float32") net->to(o.precision == "float16" ? at::kHalf : at::kBFloat16);
  net->eval();
  fm::CudaGraphed graphed(net);
  const auto once = [&](std::int64_t n) { o.graph ? draw(o, graphed, n) : draw(o, net, n); };
  for (const std::int64_t n : o.n) {
    once(std::min<std::int64_t>(n, 2000));  // two batches: the second call of a shape records it
    once(std::min<std::int64_t>(n, 2000));
    reset_memory(o.at());
    std::vector<double> seconds;
    const int repetitions = n > 1000 ? 3 : 20;
    for (int i = 0; i < repetitions; ++i) seconds.push_back(seconds_of(o.at(), [&] { once(n); }));
    report(
        o, "sample",
        fmt::format(R"(, "n": {}, "evaluations": {}, "seconds": {:.6f}, "images_per_s": {:.1f}{})",
                    n, evaluations, median(seconds), static_cast<double>(n) / median(seconds),
                    memory(o.at())));
  }
  return support::success;
}

/// Losses of the first steps, looked at each step.
std::vector<double> losses(const Options& o, std::int64_t steps) {
  UNet net = network(o);
  fm::TensorBatches batches = data(o, 6);
  fm::TrainOptions options = training(o);
  options.asynchronous = false;
  std::vector<double> found;
  fm::Trainer trainer(net, noisifier(), options);
  trainer.fit(batches, [&](const fm::StepReport& r) {
    found.push_back(*r.loss);
    return r.step == steps ? fm::Next::stop : fm::Next::proceed;
  });
  return found;
}

int agree(const Options& options) {
  Options o = options;
  double loss_difference = 0;
  o.graph = false;
  const std::vector<double> plain = losses(o, 15);
  o.graph = true;
  const std::vector<double> replayed = losses(o, 15);
  for (std::size_t i = 0; i < plain.size(); ++i)
    loss_difference = std::max(loss_difference, std::abs(plain[i] - replayed[i]));

  UNet net = network(o);
  net->eval();
  fm::CudaGraphed graphed(net);
  double difference = 0;
  for (const std::int64_t n : {16, 1, 16, 3, 1}) {
    const at::Tensor expected = draw(o, net, n);
    for (int i = 0; i < 3; ++i)
      difference =
          std::max(difference, (draw(o, graphed, n) - expected).abs().max().item<double>());
  }
  // New values in the same weights, other weights, another mode: none may be answered from before.
  {
    const at::NoGradGuard no_grad;
    for (const at::Tensor& p : net->parameters()) p.mul_(0.9);
  }
  const double new_values = (draw(o, graphed, 16) - draw(o, net, 16)).abs().max().item<double>();
  for (const at::Tensor& p : net->parameters()) p.set_data(p.detach() * 1.1);
  const double new_weights = (draw(o, graphed, 16) - draw(o, net, 16)).abs().max().item<double>();
  const bool good =
      loss_difference < 1e-3 && difference < 1e-3 && new_values < 1e-3 && new_weights < 1e-3;
  report(
      o, "agree",
      fmt::format(
          R"(, "ok": {}, "losses": {:.3g}, "samples": {:.3g}, "new_values": {:.3g}, "new_weights": {:.3g})",
          good, loss_difference, difference, new_values, new_weights));
  return good ? support::success : support::failure;
}

/// LibTorch throws where something waits for the device while this is on.
void forbid_waits([[maybe_unused]] bool on) {
#if defined(FLOWMATCH_CUDA)
  c10::cuda::warning_state().set_sync_debug_mode(on ? c10::cuda::SyncDebugMode::L_ERROR
                                                    : c10::cuda::SyncDebugMode::L_DISABLED);
#endif
}

int waits(const Options& o) {
  UNet net = network(o);
  fm::TensorBatches batches = data(o, 40);
  fm::TrainOptions options = training(o);
  options.ema_decay = 0.999;
  options.clip_norm = 1;
  std::int64_t watched = 0;
  fm::Trainer trainer(net, noisifier(), options);
  // The first steps record; log intervals end at multiples of 50, epochs at multiples of 40.
  trainer.fit(batches, [&](const fm::StepReport& r) {
    const bool looks_next = (r.step + 1) % 50 == 0 || (r.step + 1) % 40 == 0;
    const bool watch = r.step > 10 && !looks_next && r.step % 40 != 0 && r.step < 130;
    forbid_waits(watch);
    watched += watch ? 1 : 0;
    return r.step == 130 ? fm::Next::stop : fm::Next::proceed;
  });
  if (o.precision != "float32") net->to(o.precision == "float16" ? at::kHalf : at::kBFloat16);
  net->eval();
  fm::CudaGraphed graphed(net);
  const auto once = [&] { o.graph ? draw(o, graphed, 64) : draw(o, net, 64); };
  once();
  once();
  forbid_waits(true);
  once();
  forbid_waits(false);
  report(o, "waits", fmt::format(R"(, "ok": true, "steps_watched": {})", watched));
  return support::success;
}

int resume(const Options& o) {
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
  at::globalContext().setDeterministicCuDNN(true);
  at::globalContext().setBenchmarkCuDNN(false);
  const fs::path folder = fs::temp_directory_path() / fmt::format("gpu_check-{}", ::getpid());
  const auto run = [&](std::int64_t until, bool go_on) {
    UNet net = network(o);
    fm::TensorBatches batches = data(o, 8);
    fm::TrainOptions options = training(o);
    options.ema_decay = 0.99;
    options.checkpoints = folder;
    options.set_aside_other_runs = !go_on;
    fm::Trainer trainer(net, noisifier(), options);
    if (go_on) trainer.resume();
    trainer.fit(batches, [&](const fm::StepReport& r) {
      return r.step == until ? fm::Next::stop : fm::Next::proceed;
    });
    std::vector<at::Tensor> all;
    for (const at::Tensor& p : net->parameters()) all.push_back(p.detach().cpu());
    for (const at::Tensor& b : net->buffers()) all.push_back(b.detach().cpu());
    return all;
  };
  const auto whole = run(30, false);
  run(13, false);
  const auto resumed = run(30, true);
  fs::remove_all(folder);
  std::size_t same = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) same += at::equal(whole[i], resumed[i]) ? 1 : 0;
  const bool good = same == whole.size();
  report(o, "resume",
         fmt::format(R"(, "ok": {}, "tensors_alike": {}, "of": {})", good, same, whole.size()));
  return good ? support::success : support::failure;
}

int main(int argc, char** argv) {
  CLI::App app("What the library does on a GPU, measured", "gpu_check");
  Options o;
  using Check = int (*)(const Options&);
  const std::map<std::string, Check> checks = {
      {"train", train}, {"sample", sample}, {"agree", agree}, {"waits", waits}, {"resume", resume}};
  std::string what;
  app.add_option("what", what, "train, sample, agree, waits or resume")
      ->required()
      ->check(CLI::IsMember(checks));
  app.add_option("--device", o.device, "cpu, cuda or cuda:N");
  app.add_option("--model", o.model, "paper or small");
  app.add_option("--precision", o.precision, "float32, bfloat16 or float16")
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}));
  app.add_flag("--graph", o.graph, "by CUDA graphs");
  app.add_option("--batch", o.batch, "of training");
  app.add_option("--steps", o.steps, "of each of five blocks that are timed");
  app.add_option("--images", o.images, "of the training data");
  app.add_option("--n", o.n, "samples, several numbers")->delimiter(',');
  return support::run_main(app, argc, argv, [&] {
    at::globalContext().setBenchmarkCuDNN(true);
    at::globalContext().setFloat32MatmulPrecision("high");  // TF32 for what stays float32
    return checks.at(what)(o);
  });
}
