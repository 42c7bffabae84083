// The fused Adam and the averages beside LibTorch's Adam and a loop over the parameters, on the
// parameters of the Fashion-MNIST UNet:
//   optimizer_speed [paper|small] [rounds] [threads]
// Both sides take a step in turn; prints the medians and their ratios, and how far apart the
// weights are after one step. First with the process as it is in a program of LibTorch alone, then
// with big blocks kept in the process as the examples keep them, which spares LibTorch's Adam the
// page faults of its temporaries; the fused one has none.

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "examples/fashion_mnist/unet.hpp"
#include "examples/support/machine.hpp"
#include "flowmatch/optim/ema.hpp"
#include "flowmatch/optim/fused_adam.hpp"

namespace fm = flowmatch;
using fashion_mnist::UNet;
using fashion_mnist::UNetOptions;

namespace {

UNet network(const std::string& name, at::ScalarType type = at::kFloat) {
  at::manual_seed(0);
  UNet net(UNetOptions::named(name));
  net->to(type);
  at::manual_seed(1);
  for (at::Tensor& p : net->parameters()) p.mutable_grad() = at::randn_like(p);
  return net;
}

double milliseconds(const auto& f) {
  const auto began = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began)
      .count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Prints the medians of a and b, called in turn.
void compare(const char* what, std::int64_t rounds, const auto& a, const auto& b) {
  std::vector<double> theirs, ours;
  for (std::int64_t i = 0; i < rounds + 2; ++i) {  // two to warm up
    const double first = milliseconds(a);
    const double second = milliseconds(b);
    if (i < 2) continue;
    theirs.push_back(first);
    ours.push_back(second);
  }
  std::cout << what << ": " << median(theirs) << " ms beside " << median(ours) << " ms, "
            << median(theirs) / median(ours) << " x\n";
}

/// The largest relative difference of the weights after one step each.
double difference(const std::string& name, at::ScalarType type) {
  UNet a = network(name, type);
  UNet b = network(name, type);
  torch::optim::Adam theirs(a->parameters(), torch::optim::AdamOptions(1e-3));
  fm::FusedAdam ours(b->parameters(), torch::optim::AdamOptions(1e-3));
  theirs.step();
  ours.step();
  const at::NoGradGuard no_grad;
  double largest = 0;
  const std::vector<at::Tensor> x = a->parameters();
  const std::vector<at::Tensor> y = b->parameters();
  for (std::size_t i = 0; i < x.size(); ++i)
    largest = std::max(largest, ((x[i] - y[i]).norm() / x[i].norm()).item<double>());
  return largest;
}

void compare_all(const std::string& name, std::int64_t rounds) {
  UNet a = network(name);
  UNet b = network(name);
  torch::optim::Adam theirs(a->parameters(), torch::optim::AdamOptions(1e-3));
  fm::FusedAdam ours(b->parameters(), torch::optim::AdamOptions(1e-3));
  compare(
      "Adam", rounds, [&] { theirs.step(); }, [&] { ours.step(); });

  fm::Ema average(*b, 0.999, /*warmup=*/false);
  std::vector<at::Tensor> shadows;
  for (const at::Tensor& p : a->parameters()) shadows.push_back(p.detach().clone());
  const auto loop = [&] {
    const at::NoGradGuard no_grad;
    const std::vector<at::Tensor> live = a->parameters();
    for (std::size_t i = 0; i < live.size(); ++i) shadows[i].mul_(0.999).add_(live[i], 1 - 0.999);
  };
  const auto theirs_both = [&] {
    theirs.step();
    loop();
  };
  const auto ours_both = [&] {
    ours.step();
    average.update();
  };
  compare("Adam and averages", rounds, theirs_both, ours_both);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "paper";
  const std::int64_t rounds = argc > 2 ? std::atoll(argv[2]) : 30;
  const int threads = argc > 3 ? std::atoi(argv[3]) : 0;
  if (threads > 0) at::set_num_threads(threads);

  std::cout << "relative difference after one step: float32 " << difference(name, at::kFloat)
            << ", float64 " << difference(name, at::kDouble) << '\n';
  std::cout << "the process as it is\n";
  compare_all(name, rounds);
  support::set_up_machine(threads);
  std::cout << "big blocks kept in the process\n";
  compare_all(name, rounds);
}
