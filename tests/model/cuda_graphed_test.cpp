#include "flowmatch/model/cuda_graphed.hpp"

#include "flowmatch/ode/runge_kutta.hpp"
#include "flowmatch/sample/sampler.hpp"
#include "tests/support/networks.hpp"

namespace {

/// Of the kind that a Sampler asks for, for as long as it is asked.
at::Tensor evaluate(auto& model, const at::Tensor& x, const at::Tensor& label) {
  const at::NoGradGuard no_grad;
  return model(x, on_device::full({x.size(0)}, 0.3), label);
}

fm::detail::GraphKey key_of(networks::Conditional& net, const at::Tensor& x) {
  fm::detail::GraphKey key(x.device());
  key.add_input(std::make_tuple(x, fm::NoCondition{}));
  key.add_model(net);
  return key;
}

}  // namespace

// On a GPU these calls are recorded and replayed; elsewhere the model is called as it is.
TEST_CASE("cuda_graphed: a model answers as it does without, whatever changes") {
  networks::Conditional net;
  net->to(test_device());
  net->eval();
  fm::CudaGraphed graphed(net);
  const at::Tensor label = on_device::arange(4);
  const auto agree = [&](std::int64_t n) {
    for (int call = 0; call < 3; ++call) {
      const at::Tensor x = on_device::randn({n, 1, 5, 5});
      const at::NoGradGuard no_grad;
      const at::Tensor expected = net->forward(x, on_device::full({n}, 0.3), label.slice(0, 0, n));
      REQUIRE(close(evaluate(graphed, x, label.slice(0, 0, n)), expected, 1e-5, 1e-6));
    }
  };
  for (const std::int64_t n : {4, 1, 4, 3}) agree(n);
  {
    const at::NoGradGuard no_grad;
    net->conv->weight.mul_(2);
  }
  agree(4);
  net->conv->weight.set_data(net->conv->weight.detach() + 1);
  agree(4);
  net->embedding->weight.set_data(net->embedding->weight.detach().clone());
  agree(4);
  net->norm->running_mean.fill_(1);
  agree(4);
  const at::Tensor kept = evaluate(graphed, on_device::ones({4, 1, 5, 5}), label);
  const at::Tensor before = kept.clone();
  evaluate(graphed, on_device::zeros({4, 1, 5, 5}), label);
  CHECK(at::equal(kept, before));  // what was handed out is the caller's
}

TEST_CASE("cuda_graphed: gradients go through the model") {
  networks::Conditional net;
  net->to(test_device());
  fm::CudaGraphed graphed(net);
  const at::Tensor x = on_device::randn({2, 1, 5, 5}).requires_grad_();
  for (int call = 0; call < 3; ++call)
    CHECK(graphed(x, on_device::zeros({2}), on_device::arange(2)).requires_grad());
}

TEST_CASE("cuda_graphed: a Sampler knows the module inside") {
  networks::Conditional net;
  net->to(test_device());
  net->train();
  fm::Sampler plain(net, fm::ode::Euler{}, fm::TimeGrid::uniform(3));
  fm::Sampler graphed{fm::CudaGraphed(net), fm::ode::Euler{}, fm::TimeGrid::uniform(3)};
  for (int call = 0; call < 3; ++call) {
    fm::Rng a(1, test_device()), b(1, test_device());
    CHECK(close(graphed.sample({3, 1, 5, 5}, a, on_device::arange(3)),
                plain.sample({3, 1, 5, 5}, b, on_device::arange(3)), 1e-5, 1e-6));
  }
  CHECK(net->is_training());
}

TEST_CASE("cuda_graphed: what a recording depends on is in its key") {
  networks::Conditional net;
  const at::Tensor x = torch::randn({2, 1, 5, 5});
  const auto key = key_of(net, x);
  CHECK(key == key_of(net, torch::zeros({2, 1, 5, 5})));
  CHECK_FALSE(key == key_of(net, torch::zeros({3, 1, 5, 5})));
  CHECK_FALSE(key == key_of(net, torch::zeros({2, 1, 5, 5}, torch::kDouble)));
  net->norm->eval();
  CHECK_FALSE(key == key_of(net, x));
  net->norm->train();
  CHECK(key == key_of(net, x));
  net->norm->running_var.set_data(torch::ones({1}));
  CHECK_FALSE(key == key_of(net, x));
}
