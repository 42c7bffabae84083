#include "flowmatch/sample/sampler.hpp"

#include <ATen/record_function.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <thread>

#include "flowmatch/model/adapters.hpp"
#include "flowmatch/model/rescheduled.hpp"
#include "flowmatch/sample/method.hpp"
#include "tests/support/gaussian_flow.hpp"
#include "tests/support/networks.hpp"
#include "tests/support/test.hpp"

namespace ode = flowmatch::ode;

namespace {

using gaussian_flow::flow;
using gaussian_flow::mu;
using gaussian_flow::s;

/// One type for all lambdas: the Sampler is compiled once for all of them.
using AnyModel = std::function<at::Tensor(const at::Tensor&, const at::Tensor&)>;

}  // namespace

TEST_CASE("sampler: every method reaches the known end of the Gaussian flow") {
  const at::Tensor x_0 = on_device::randn({50, 3}, torch::kDouble);
  const at::Tensor end = mu + s * x_0;
  for (const char* name : {"euler", "midpoint", "heun2", "heun3", "rk4", "rk4_classic", "dopri5"}) {
    ode::with_method(name, [&](auto method) {
      const double tolerance = method.order == 1 ? 6e-2 : method.order == 2 ? 2e-3 : 1e-4;
      INFO(name);
      CHECK(close(fm::Sampler(flow, method, fm::TimeGrid::uniform(50)).sample_from(x_0), end, 0,
                  tolerance));
    });
  }
  fm::Sampler adaptive(flow, ode::Dopri5{}, fm::AdaptiveOptions{.rtol = 1e-8, .atol = 1e-8});
  const fm::SampleResult result = adaptive.solve(x_0);
  CHECK(close(result.x, end, 0, 1e-7));
  CHECK(result.statistics.evaluations ==
        2 + 6 * (result.statistics.accepted + result.statistics.rejected));
}

TEST_CASE("sampler: the post's grid repeats the post's loop") {
  const at::Tensor x_0 = on_device::randn({4, 2}, torch::kDouble);
  at::Tensor x = x_0.clone();
  const at::Tensor steps = on_device::linspace(0, 1, 10, torch::kDouble);
  for (std::int64_t i = 0; i < 10; ++i) x += gaussian_flow::velocity(x, steps[i].expand({4})) * 0.1;
  CHECK(close(fm::Sampler(flow, ode::Euler{}, fm::TimeGrid::post(10)).sample_from(x_0), x, 1e-13,
              1e-13));
}

TEST_CASE("sampler: the model gets t as a tensor for every sample in the right dtype") {
  std::vector<at::Tensor> times;
  auto record = [&](const at::Tensor& x, const at::Tensor& t) {
    times.push_back(t.clone());
    return at::zeros_like(x);
  };
  fm::Sampler sampler(record, ode::Midpoint{}, fm::TimeGrid::uniform(2));
  sampler.sample_from(on_device::zeros({3, 2}));
  REQUIRE(times.size() == 4);
  CHECK(at::equal(at::stack(times).select(1, 2), on_device::tensor({0.0F, 0.25F, 0.5F, 0.75F})));
  CHECK(times[0].sizes() == at::IntArrayRef{3});
  sampler.sample_from(on_device::zeros({3, 2}, torch::kHalf));
  CHECK(times.back().dtype() == torch::kFloat);
  sampler.sample_from(on_device::zeros({3, 2}, torch::kDouble));
  CHECK(times.back().dtype() == torch::kDouble);
}

TEST_CASE("sampler: results do not depend on the batch size") {
  torch::manual_seed(0);
  networks::Conditional net;
  net->eval();
  const at::Tensor x_0 = on_device::randn({7, 1, 8, 8});
  const at::Tensor labels = on_device::arange(7);
  const at::Tensor whole =
      fm::Sampler(net, ode::RK4{}, fm::TimeGrid::uniform(5)).sample_from(x_0, labels);
  for (const std::int64_t size : {1, 3, 7, 100}) {
    fm::Sampler sampler(net, ode::RK4{}, fm::TimeGrid::uniform(5), {.batch_size = size});
    CHECK(close(sampler.sample_from(x_0, labels), whole, 1e-4, 1e-5));
    CHECK(close(sampler.trajectory(x_0, labels)[5], whole, 1e-4, 1e-5));
  }
}

TEST_CASE("sampler: batches side by side give what they give one after the other") {
  const Threads two(2);
  torch::manual_seed(0);
  networks::Conditional net;
  net->eval();
  const at::Tensor x_0 = on_device::randn({7, 1, 8, 8});
  const at::Tensor labels = on_device::arange(7);
  const auto grid = fm::TimeGrid::uniform(5);
  const at::Tensor whole = fm::Sampler(net, ode::RK4{}, grid).sample_from(x_0, labels);
  for (const std::int64_t size : {0, 1, 3, 100}) {
    fm::Sampler sampler(net, ode::RK4{}, grid, {.batch_size = size, .parallel = true});
    const fm::SampleResult result = sampler.solve(x_0, labels);
    CHECK(close(result.x, whole, 1e-4, 1e-5));
    const std::int64_t batches = size == 0 ? 2 : (7 + size - 1) / size;
    CHECK(result.statistics.evaluations == batches * 20);
    CHECK(close(sampler.trajectory(x_0, labels)[5], whole, 1e-4, 1e-5));
  }
  CHECK(at::get_num_threads() == 2);
}

TEST_CASE("sampler: batches side by side share the observer, the stop and the first error") {
  const Threads two(2);
  const at::Tensor x_0 = on_device::randn({6, 2});
  fm::SamplerOptions options{.batch_size = 1, .parallel = true};
  std::vector<int> steps(6);  // without a lock: the observer hears one step at a time
  options.observer = [&](const fm::SampleStep& step) {
    ++steps[static_cast<std::size_t>(step.first)];
    return true;
  };
  fm::Sampler(flow, ode::Euler{}, fm::TimeGrid::uniform(4), options).sample_from(x_0);
  CHECK(steps == std::vector<int>(6, 4));

  int heard = 0;
  options.observer = [&](const fm::SampleStep&) { return ++heard < 2; };
  const fm::SampleResult stopped =
      fm::Sampler(flow, ode::Euler{}, fm::TimeGrid::uniform(4), options).solve(x_0);
  CHECK(stopped.statistics.status == ode::Status::stopped);
  CHECK(stopped.statistics.evaluations <= 4);
  CHECK(stopped.x.sizes() == x_0.sizes());
  CHECK(at::equal(stopped.x.slice(0, 5), x_0.slice(0, 5)));  // never begun

  auto failing = [](const at::Tensor& x, const at::Tensor&) { return x / 0.0; };
  CHECK_THROWS_AS(fm::Sampler(failing, ode::Dopri5{}, fm::AdaptiveOptions{},
                              {.batch_size = 1, .parallel = true})
                      .solve(x_0),
                  fm::SolverError);
  CHECK_THROWS_AS(
      fm::Sampler(flow, ode::Dopri5{}, fm::AdaptiveOptions{}, {.parallel = true}).trajectory(x_0),
      fm::OptionError);
}

TEST_CASE("sampler: where a device's memory is used up the error says what to do") {
  const AnyModel full = [](const at::Tensor& x, const at::Tensor&) {
    if (x.size(0) > 2) TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory");
    return x;
  };
  const at::Tensor x_0 = on_device::zeros({4, 2});
  const auto grid = fm::TimeGrid::uniform(2);
  try {
    fm::Sampler(full, ode::Euler{}, grid).sample_from(x_0);
    FAIL("no error");
  } catch (const fm::MemoryError& error) {
    CHECK(std::string_view(error.what())
              .find("4 samples at a time; set SamplerOptions::batch_size") !=
          std::string_view::npos);
  }
  CHECK(fm::Sampler(full, ode::Euler{}, grid, {.batch_size = 2}).sample_from(x_0).size(0) == 4);
}

TEST_CASE("sampler: tuple conditions are split with the batches") {
  using Condition = std::tuple<at::Tensor, at::Tensor>;
  auto model = [](const at::Tensor& x, const at::Tensor&, const Condition& c) {
    return (std::get<0>(c) * std::get<1>(c)).unsqueeze(1).expand_as(x);
  };
  const Condition c{doubles({1, 2, 3}), doubles({10, 20, 30})};
  const at::Tensor x_0 = on_device::zeros({3, 2}, torch::kDouble);
  const at::Tensor x = fm::Sampler(model, ode::Euler{}, fm::TimeGrid::uniform(4), {.batch_size = 2})
                           .sample_from(x_0, c);
  CHECK(close(x.select(1, 1), doubles({10, 40, 90})));
}

TEST_CASE("sampler: the seed alone decides the samples") {
  networks::Mlp net;
  fm::Sampler sampler(net, ode::Euler{}, fm::TimeGrid::uniform(5));
  fm::Rng a(5, test_device()), b(5, test_device()), c(6, test_device());
  const at::Tensor first = sampler.sample({8, 2}, a);
  CHECK(at::equal(first, sampler.sample({8, 2}, b)));
  CHECK_FALSE(at::equal(first, sampler.sample({8, 2}, c)));
  CHECK_FALSE(at::equal(first, sampler.sample({8, 2}, a)));
}

TEST_CASE("sampler: samples lie where the module does, wherever the Rng draws") {
  networks::Mlp net;
  fm::Rng rng(1);
  const auto grid = fm::TimeGrid::uniform(2);
  CHECK(fm::Sampler(net, ode::Euler{}, grid).sample({3, 2}, rng).device() == test_device());
  CHECK(fm::Sampler(net, fm::DpmSolver<1>{}, grid).sample({3, 2}, rng).device() == test_device());
}

TEST_CASE("sampler: samples have the dtype of the module's parameters") {
  networks::Mlp net;
  net->to(torch::kDouble);
  fm::Rng rng(1, test_device());
  CHECK(fm::Sampler(net, ode::Euler{}, fm::TimeGrid::uniform(2)).sample({3, 2}, rng).dtype() ==
        torch::kDouble);
  CHECK(fm::Sampler(flow, ode::Euler{}, fm::TimeGrid::uniform(2)).sample({3, 2}, rng).dtype() ==
        torch::kFloat);
}

TEST_CASE("sampler: trajectory holds the start and every step") {
  const at::Tensor x_0 = on_device::randn({5, 2});
  fm::Sampler sampler(flow, ode::Heun2{}, fm::TimeGrid::uniform(6), {.batch_size = 2});
  const at::Tensor track = sampler.trajectory(x_0);
  REQUIRE(track.sizes() == at::IntArrayRef{7, 5, 2});
  CHECK(at::equal(track[0], x_0));
  CHECK(at::equal(track[6], sampler.sample_from(x_0)));
  CHECK(at::equal(track[3],
                  fm::Sampler(flow, ode::Heun2{}, fm::TimeGrid::nodes({0, 1. / 6, 2. / 6, 0.5}))
                      .sample_from(x_0)));
  const at::Tensor adaptive = fm::Sampler(flow, ode::Dopri5{}).trajectory(x_0);
  CHECK(adaptive.size(0) > 2);
  CHECK(at::equal(adaptive[0], x_0));
}

TEST_CASE("sampler: the observer sees every step and may stop") {
  const at::Tensor x_0 = on_device::randn({5, 2});
  std::vector<std::int64_t> firsts;
  fm::SamplerOptions options;
  options.batch_size = 3;
  options.observer = [&](const fm::SampleStep& step) {
    firsts.push_back(step.first);
    CHECK(step.steps == 4);
    CHECK(step.samples == 5);
    CHECK(step.t == Approx(0.25 * static_cast<double>(step.step)));
    return true;
  };
  fm::Sampler(flow, ode::Euler{}, fm::TimeGrid::uniform(4), options).sample_from(x_0);
  CHECK(firsts == std::vector<std::int64_t>{0, 0, 0, 0, 3, 3, 3, 3});

  options.observer = [](const fm::SampleStep& step) { return step.step < 2; };
  const fm::SampleResult stopped =
      fm::Sampler(flow, ode::Euler{}, fm::TimeGrid::uniform(4), options).solve(x_0);
  CHECK(stopped.statistics.status == ode::Status::stopped);
  CHECK(stopped.statistics.evaluations == 2);
  CHECK(stopped.x.sizes() == x_0.sizes());
  CHECK(at::equal(stopped.x.slice(0, 3), x_0.slice(0, 3)));  // never begun

  std::stop_source source;
  source.request_stop();
  const fm::SampleResult at_once =
      fm::Sampler(flow, ode::Euler{}, fm::TimeGrid::uniform(4), {.stop = source.get_token()})
          .solve(x_0);
  CHECK(at_once.statistics.evaluations == 1);
}

TEST_CASE(
    "sampler: a module is sampled in evaluation mode without gradients and gets its mode back") {
  networks::Conditional net;
  net->train();
  net->norm->eval();
  struct Probe {
    networks::Conditional net;
    bool* training;
    at::Tensor operator()(const at::Tensor& x, const at::Tensor& t, const at::Tensor& c) {
      *training = net->is_training();
      return net->forward(x, t, c);
    }
  };
  const at::Tensor before = net->norm->running_mean.clone();
  fm::Rng rng(1, test_device());
  const at::Tensor x = fm::Sampler(net, ode::Euler{}, fm::TimeGrid::uniform(2))
                           .sample({4, 1, 8, 8}, rng, on_device::arange(4));
  CHECK_FALSE(x.requires_grad());
  CHECK(at::equal(net->norm->running_mean, before));
  CHECK(net->is_training());
  CHECK(net->conv->is_training());
  CHECK_FALSE(net->norm->is_training());
  // Samples can take part in training later: they are no inference tensors.
  CHECK_FALSE(x.is_inference());
}

TEST_CASE("sampler: holders and pointers and references are sampled alike") {
  networks::Mlp net;
  const at::Tensor x_0 = on_device::randn({4, 2});
  const fm::TimeGrid grid = fm::TimeGrid::uniform(3);
  const at::Tensor x = fm::Sampler(net, ode::Euler{}, grid).sample_from(x_0);
  CHECK(at::equal(x, fm::Sampler(net.ptr(), ode::Euler{}, grid).sample_from(x_0)));
  CHECK(at::equal(x, fm::Sampler(*net, ode::Euler{}, grid).sample_from(x_0)));
  CHECK(at::equal(x, fm::Sampler(std::ref(*net), ode::Euler{}, grid).sample_from(x_0)));
}

TEST_CASE("sampler: threads share a module in evaluation mode") {
  networks::Mlp net;
  net->eval();
  const at::Tensor x_0 = on_device::randn({64, 2});
  const at::Tensor alone =
      fm::Sampler(net, ode::Midpoint{}, fm::TimeGrid::uniform(10)).sample_from(x_0);
  std::vector<at::Tensor> results(4);
  {
    std::vector<std::jthread> threads;
    for (at::Tensor& result : results) {
      threads.emplace_back([&] {
        result = fm::Sampler(net, ode::Midpoint{}, fm::TimeGrid::uniform(10)).sample_from(x_0);
      });
    }
  }
  for (const at::Tensor& result : results) CHECK(at::equal(result, alone));
}

TEST_CASE("sampler: the start is not altered and may be strided or empty") {
  const at::Tensor x_0 = on_device::randn({2, 6}).t();
  const at::Tensor before = x_0.clone();
  const at::Tensor x = fm::Sampler(flow, ode::RK4{}, fm::TimeGrid::uniform(20)).sample_from(x_0);
  CHECK(at::equal(x_0, before));
  CHECK(close(x, (mu + s * x_0).to(torch::kFloat), 1e-3, 1e-3));
  CHECK(fm::Sampler(flow, ode::Euler{}, fm::TimeGrid::uniform(2))
            .sample_from(on_device::empty({0, 2}))
            .sizes() == at::IntArrayRef{0, 2});
}

TEST_CASE("sampler: bad input is refused with a remedy") {
  const at::Tensor x_0 = on_device::randn({3, 1, 8, 8});
  const fm::TimeGrid grid = fm::TimeGrid::uniform(2);
  networks::Conditional net;
  require_error<fm::ShapeError>(
      [&] { fm::Sampler(net, ode::Euler{}, grid).sample_from(x_0, on_device::arange(2)); },
      "2 entries for 3 samples");
  require_error<fm::ShapeError>(
      [&] { fm::Sampler(flow, ode::Euler{}, grid).sample_from(on_device::arange(3)); },
      "floating tensor");
  require_error<fm::ShapeError>(
      [&] { fm::Sampler(flow, ode::Euler{}, grid).sample_from(at::Tensor{}); }, "undefined");
  require_error<fm::OptionError>([&] { fm::Sampler(flow, ode::Euler{}, grid, {.batch_size = -1}); },
                                 "batch_size is -1");
  require_error<fm::OptionError>(
      [&] { fm::Sampler(flow, ode::Dopri5{}, fm::AdaptiveOptions{.rtol = -1}); }, "rtol is");
  require_error<fm::OptionError>(
      [&] {
        fm::Sampler(flow, ode::Dopri5{}, fm::AdaptiveOptions{}, {.batch_size = 2}).trajectory(x_0);
      },
      "batch_size to 0");
  require_error<fm::OptionError>(
      [&] { fm::Sampler(flow, ode::Heun2{}, fm::TimeGrid::post(3)).sample_from(x_0); },
      "for euler only");
}

TEST_CASE("sampler: a final step is Euler's, from 1 - final_step to 1") {
  const at::Tensor x_0 = on_device::randn({6, 2}, torch::kDouble);
  std::vector<double> times;
  auto recorded = [&](const at::Tensor& x, const at::Tensor& t) {
    times.push_back(t[0].item<double>());
    return gaussian_flow::velocity(x, t);
  };
  // Heun's method evaluates the ends of its steps, so it would ask at t = 1.
  const auto grid = fm::TimeGrid::uniform(3, 0, 0.75);
  std::vector<std::int64_t> heard;
  fm::SamplerOptions options{.batch_size = 6, .final_step = 0.25};
  options.observer = [&](const fm::SampleStep& step) {
    heard.push_back(step.step);
    CHECK(step.steps == 4);
    return true;
  };
  const fm::SampleResult result = fm::Sampler(recorded, ode::Heun2{}, grid, options).solve(x_0);
  CHECK(times == std::vector<double>{0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75});
  CHECK(heard == std::vector<std::int64_t>{1, 2, 3, 4});
  CHECK(result.statistics.evaluations == 7);
  CHECK(result.statistics.accepted == 4);
  const at::Tensor near = fm::Sampler(flow, ode::Heun2{}, grid).sample_from(x_0);
  const at::Tensor t = on_device::full({6}, 0.75, torch::kDouble);
  CHECK(close(result.x, near + 0.25 * gaussian_flow::velocity(near, t)));

  fm::Sampler euler(flow, ode::Euler{}, fm::TimeGrid::uniform(9, 0, 0.9), {.final_step = 0.1});
  CHECK(close(euler.sample_from(x_0),
              fm::Sampler(flow, ode::Euler{}, fm::TimeGrid::uniform(10)).sample_from(x_0)));
  CHECK(euler.trajectory(x_0).size(0) == 11);

  times.clear();
  fm::Sampler adaptive(recorded, ode::Dopri5{}, fm::AdaptiveOptions{}, {.final_step = 0.01});
  CHECK(close(adaptive.sample_from(x_0), mu + s * x_0, 0, 1e-2));
  CHECK(*std::max_element(times.begin(), times.end()) == 0.99);

  // One who stops before it gets no final step.
  fm::SamplerOptions stopping{.final_step = 0.1};
  stopping.observer = [](const fm::SampleStep& step) { return step.step < 9; };
  const auto nine = fm::TimeGrid::uniform(9, 0, 0.9);
  CHECK(fm::Sampler(flow, ode::Euler{}, nine, stopping).solve(x_0).statistics.accepted == 9);

  require_error<fm::OptionError>(
      [&] { fm::Sampler(flow, ode::Euler{}, fm::TimeGrid::uniform(9), {.final_step = 0.1}); },
      "must end at 0.9, not 1");
  require_error<fm::OptionError>(
      [&] { fm::Sampler(flow, ode::Euler{}, fm::TimeGrid::uniform(9), {.final_step = 1}); },
      "choose one in [0, 1)");
}

TEST_CASE("sampler: the post's grid with the post's additions gives the same bits") {
  for (const std::int64_t n : {1, 7, 10}) {
    const at::Tensor x_0 = on_device::randn({4, 2}, torch::kDouble);
    at::Tensor x = x_0.clone();
    const double dn = 1 / static_cast<double>(n);
    for (std::int64_t i = 0; i < n; ++i) {
      const double t = n == 1 ? 0 : static_cast<double>(i) / static_cast<double>(n - 1);
      x.add_(gaussian_flow::velocity(x, on_device::full({4}, t, torch::kDouble)), dn);
    }
    CHECK(at::equal(fm::Sampler(flow, ode::Euler{}, fm::TimeGrid::post(n)).sample_from(x_0), x));
  }
}

TEST_CASE("sampler: a grid from 1 to 0 takes the samples back to their noise") {
  const at::Tensor x_0 = on_device::randn({20, 3}, torch::kDouble);
  fm::Sampler back(flow, ode::RK4{}, fm::TimeGrid::uniform(100, 1, 0));
  CHECK(close(back.sample_from(mu + s * x_0), x_0, 0, 1e-4));
  const at::Tensor track = back.trajectory(mu + s * x_0);
  CHECK(close(track[0], mu + s * x_0));
  CHECK(close(track[100], x_0, 0, 1e-4));
}

TEST_CASE("sampler: a model may answer with a view of its time or of its input") {
  const at::Tensor x_0 = on_device::randn({4, 2}, torch::kDouble);
  const AnyModel time = [](const at::Tensor& x, const at::Tensor& t) {
    return t.unsqueeze(1).expand_as(x);
  };
  const AnyModel itself = [](const at::Tensor& x, const at::Tensor&) { return x; };
  for (const char* name : {"midpoint", "heun2", "heun3", "rk4", "rk4_classic", "dopri5"}) {
    ode::with_method(name, [&](auto method) {
      INFO(name);
      // x' = t: every method of order 2 or more is exact.
      CHECK(close(fm::Sampler(time, method, fm::TimeGrid::uniform(3)).sample_from(x_0), x_0 + 0.5));
      CHECK(close(fm::Sampler(itself, method, fm::TimeGrid::uniform(50)).sample_from(x_0),
                  x_0 * std::exp(1.0), 1e-3, 1e-6));
    });
  }
}

TEST_CASE("sampler: a stopped trajectory has every sample and ends like the stopped solve") {
  const at::Tensor x_0 = on_device::randn({7, 2});
  fm::SamplerOptions options;
  options.batch_size = 3;
  // Stops in the second batch, after two of its five steps.
  options.observer = [](const fm::SampleStep& step) { return step.first == 0 || step.step < 2; };
  fm::Sampler sampler(flow, ode::Heun2{}, fm::TimeGrid::uniform(5), options);
  const at::Tensor track = sampler.trajectory(x_0);
  REQUIRE(track.sizes() == at::IntArrayRef{6, 7, 2});
  const fm::SampleResult stopped = sampler.solve(x_0);
  CHECK(stopped.statistics.status == ode::Status::stopped);
  CHECK(stopped.statistics.accepted == 5 + 2);
  CHECK(at::equal(track[0], x_0));
  CHECK(at::equal(track[5], stopped.x));
  const at::Tensor whole =
      fm::Sampler(flow, ode::Heun2{}, fm::TimeGrid::uniform(5)).trajectory(x_0);
  CHECK(close(track.slice(1, 0, 3), whole.slice(1, 0, 3), 1e-6, 1e-6));
  for (std::int64_t i = 2; i < 6; ++i) {
    CHECK(close(track[i].slice(0, 3, 6), whole[2].slice(0, 3, 6), 1e-6, 1e-6));
    CHECK(at::equal(track[i].slice(0, 6), x_0.slice(0, 6)));
  }
}

TEST_CASE("sampler: an adaptive solve tells each step to the observer and stops by token") {
  const at::Tensor x_0 = on_device::randn({5, 2}, torch::kDouble);
  std::stop_source source;
  fm::SamplerOptions options;
  options.stop = source.get_token();
  std::vector<double> times;
  options.observer = [&](const fm::SampleStep& step) {
    times.push_back(step.t);
    CHECK(step.steps == 0);
    CHECK(step.step == static_cast<std::int64_t>(times.size()));
    CHECK(step.x.sizes() == x_0.sizes());
    return true;
  };
  const fm::AdaptiveOptions tolerance{.rtol = 1e-6, .atol = 1e-6};
  const fm::SampleResult all = fm::Sampler(flow, ode::Dopri5{}, tolerance, options).solve(x_0);
  CHECK(times.size() == static_cast<std::size_t>(all.statistics.accepted));
  CHECK(times.back() == 1);
  CHECK(std::is_sorted(times.begin(), times.end()));
  CHECK(all.statistics.status == ode::Status::finished);

  options.observer = [&](const fm::SampleStep& step) {
    if (step.step == 2) source.request_stop();
    return true;
  };
  const fm::SampleResult some = fm::Sampler(flow, ode::Dopri5{}, tolerance, options).solve(x_0);
  CHECK(some.statistics.status == ode::Status::stopped);
  CHECK(some.statistics.accepted == 2);
}

TEST_CASE("sampler: dropout is off while sampling and the mode comes back after an error too") {
  networks::Mlp net(2, 16, true);
  net->train();
  fm::Sampler sampler(net, ode::Euler{}, fm::TimeGrid::uniform(4));
  const at::Tensor x_0 = on_device::randn({6, 2});
  CHECK(at::equal(sampler.sample_from(x_0), sampler.sample_from(x_0)));
  CHECK(net->is_training());
  for (const auto& child : net->layers->children()) CHECK(child->is_training());

  CHECK_THROWS_AS(fm::Sampler(net, ode::Dopri5{}).sample_from(x_0 / 0), fm::SolverError);
  CHECK(net->is_training());
  for (const auto& child : net->layers->children()) CHECK(child->is_training());
  CHECK(at::GradMode::is_enabled());
}

TEST_CASE("sampler: sampling leaves no gradients on the start and the parameters") {
  networks::Mlp net;
  const at::Tensor x_0 = on_device::randn({6, 2}).requires_grad_();
  const at::Tensor before = x_0.detach().clone();
  const at::Tensor x = fm::Sampler(net, ode::RK4{}, fm::TimeGrid::uniform(3)).sample_from(x_0);
  CHECK_FALSE(x.requires_grad());
  CHECK_FALSE(fm::Sampler(net, ode::Dopri5{}).trajectory(x_0).requires_grad());
  CHECK(at::equal(x_0, before));
  CHECK_FALSE(x_0.grad().defined());
  for (const at::Tensor& p : net->parameters()) CHECK_FALSE(p.grad().defined());
}

TEST_CASE("sampler: noise is drawn for all samples before they are split into batches") {
  networks::Mlp net;
  const fm::TimeGrid grid = fm::TimeGrid::uniform(3);
  fm::Rng a(9, test_device()), b(9, test_device()), c(9, test_device());
  const at::Tensor whole = fm::Sampler(net, ode::Euler{}, grid).sample({7, 2}, a);
  const at::Tensor split =
      fm::Sampler(net, ode::Euler{}, grid, {.batch_size = 2}).sample({7, 2}, b);
  CHECK(close(split, whole, 1e-5, 1e-6));
  CHECK(close(fm::Sampler(net, ode::Euler{}, grid).sample_from(c.normal({7, 2})), whole, 0, 0));
}

TEST_CASE("sampler: evaluations and steps are summed over the batches") {
  const at::Tensor x_0 = on_device::randn({7, 2});
  const fm::SampleResult r =
      fm::Sampler(flow, ode::RK4{}, fm::TimeGrid::uniform(5), {.batch_size = 3}).solve(x_0);
  CHECK(r.statistics.accepted == 3 * 5);
  CHECK(r.statistics.evaluations == 3 * 5 * 4);
  CHECK(r.statistics.largest_step == Approx(0.2));
}

TEST_CASE("sampler: threads with starts and labels of their own get the same bits as alone") {
  torch::manual_seed(4);
  networks::Conditional net;
  net->eval();
  std::vector<at::Tensor> starts, labels, alone;
  for (std::int64_t i = 0; i < 4; ++i) {
    starts.push_back(on_device::randn({3 + i, 1, 6, 6}));
    labels.push_back(on_device::full({3 + i}, i, torch::kLong));
    alone.push_back(fm::Sampler(net, ode::Dopri5{}).sample_from(starts.back(), labels.back()));
  }
  std::vector<at::Tensor> results(4);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < 4; ++i) {
      threads.emplace_back([&, i] {
        results[i] = fm::Sampler(net, ode::Dopri5{}).sample_from(starts[i], labels[i]);
      });
    }
  }
  for (std::size_t i = 0; i < 4; ++i) CHECK(at::equal(results[i], alone[i]));
}

TEST_CASE("sampler: images in channels-last order and samples without further dimensions") {
  const at::Tensor images =
      on_device::randn({2, 3, 4, 4}, torch::kDouble).contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor plain = images.contiguous();
  fm::Sampler sampler(flow, ode::RK4{}, fm::TimeGrid::uniform(10));
  CHECK(close(sampler.sample_from(images), sampler.sample_from(plain)));
  CHECK(sampler.sample_from(images).is_contiguous(at::MemoryFormat::ChannelsLast));
  const at::Tensor numbers = on_device::randn({9}, torch::kDouble);
  CHECK(close(sampler.sample_from(numbers), mu + s * numbers, 0, 1e-3));
}

TEST_CASE("sampler: shapes and models that do not fit are refused") {
  const fm::TimeGrid grid = fm::TimeGrid::uniform(2);
  fm::Rng rng(1, test_device());
  require_error<fm::ShapeError>(
      [&] {
        fm::Sampler(flow, ode::Euler{}, grid).sample({-1, 2}, rng);
      },
      "holds -1");
  require_error<fm::ShapeError>([&] { fm::Sampler(flow, ode::Euler{}, grid).sample({}, rng); },
                                "floating tensor");
  require_error<fm::ShapeError>(
      [&] {
        fm::Sampler(flow, ode::Dopri5{}, fm::AdaptiveOptions{}, {.batch_size = 1})
            .trajectory(at::Tensor{});
      },
      "undefined");
  auto crops = [](const at::Tensor& x, const at::Tensor&) { return x.slice(1, 0, 1); };
  require_error<fm::ShapeError>(
      [&] {
        fm::Sampler(crops, ode::Euler{}, grid).sample_from(on_device::zeros({3, 2}));
      },
      "the model's output has shape [3, 1]");
  auto labelled = [](const at::Tensor& x, const at::Tensor&,
                     const std::tuple<at::Tensor, at::Tensor>&) { return x; };
  require_error<fm::ShapeError>(
      [&] {
        fm::Sampler(labelled, ode::Euler{}, grid)
            .sample_from(on_device::zeros({3, 2}),
                         std::tuple(on_device::zeros({3}), on_device::zeros({2})));
      },
      "3 and 2 samples");
}

TEST_CASE("sampler: fixed steps read nothing back to the host and adaptive ones a number a step") {
  // Each such read is one aten::_local_scalar_dense; on a GPU it waits for all work before it. On
  // the CPU with several threads the trial of parts has some.
  const Threads one(1);
  static thread_local int reads = 0;
  const auto handle =
      at::addThreadLocalCallback(at::RecordFunctionCallback([](const at::RecordFunction& op) {
                                   if (std::string_view(op.name()) == "aten::_local_scalar_dense")
                                     ++reads;
                                   return std::unique_ptr<at::ObserverContext>();
                                 }).scopes({at::RecordScope::FUNCTION}));
  networks::Mlp net;
  const at::Tensor x_0 = on_device::randn({1 << 16, 2});  // small ones on the CPU need no operation
  reads = 0;
  fm::Sampler fixed(net, ode::RK4{}, fm::TimeGrid::uniform(5), {.batch_size = 30000});
  fixed.sample_from(x_0);
  fixed.trajectory(x_0);
  CHECK(reads == 0);
  const ode::Statistics statistics = fm::Sampler(net, ode::Dopri5{}).solve(x_0).statistics;
  CHECK(reads == statistics.accepted + statistics.rejected + 3);  // 3 choose the first step
  x_0.sum().item<float>();
  CHECK(reads == statistics.accepted + statistics.rejected + 4);  // reads are seen at all
  at::removeCallback(handle);
}

namespace {

/// v = 1, in half precision.
struct OneImpl : torch::nn::Module {
  OneImpl() { one = register_parameter("one", on_device::ones({1})); }
  at::Tensor forward(const at::Tensor& x, const at::Tensor&) {
    REQUIRE(x.dtype() == one.dtype());
    return one * at::ones_like(x);
  }
  at::Tensor one;
};
TORCH_MODULE(One);

/// -x, and keeps all that it is given, as it was then.
struct Keeping {
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& t) {
    for (const at::Tensor& each : {x, t, x.slice(0, 0, 1)}) keep(each);
    return -x;
  }
  void keep(const at::Tensor& each) {
    kept.push_back(each);
    copies.push_back(each.clone());
  }
  bool unchanged() const {
    for (std::size_t i = 0; i < kept.size(); ++i) {
      if (!at::equal(kept[i], copies[i])) return false;
    }
    return !kept.empty();
  }
  std::vector<at::Tensor> kept{}, copies{};
};

}  // namespace

TEST_CASE("sampler: networks in adapters are in evaluation mode, and get their own back") {
  auto norm = on_device::module(torch::nn::BatchNorm1d(2));
  const auto through = [&norm](const at::Tensor& x, const at::Tensor&) { return norm->forward(x); };
  struct NetImpl : torch::nn::Module {
    explicit NetImpl(torch::nn::BatchNorm1d n) { norm = register_module("norm", n); }
    at::Tensor forward(const at::Tensor& x, const at::Tensor&) { return norm->forward(x); }
    torch::nn::BatchNorm1d norm{nullptr};
  };
  const auto net = std::make_shared<NetImpl>(norm);
  const at::Tensor x_0 = 3 + on_device::randn({16, 2});
  const auto check = [&](auto plain, auto model) {
    norm->eval();
    const fm::TimeGrid grid = fm::TimeGrid::uniform(4);
    const at::Tensor expected = fm::Sampler(plain, ode::Heun2{}, grid).sample_from(x_0);
    net->train();
    const at::Tensor mean = norm->running_mean.clone();
    CHECK(at::equal(fm::Sampler(model, ode::Heun2{}, grid).sample_from(x_0), expected));
    CHECK(at::equal(norm->running_mean, mean));
    CHECK(net->is_training());
    CHECK(norm->is_training());
  };
  const fm::CondOTScheduler straight;
  const fm::CosineScheduler cosine;
  check(through, net);
  check(fm::VelocityFromX1(through, straight), fm::VelocityFromX1(net, straight));
  check(fm::VelocityFromEpsilon(through, cosine), fm::VelocityFromEpsilon(net, cosine));
  check(fm::Rescheduled(fm::VelocityFromEpsilon(through, cosine), cosine, straight),
        fm::Rescheduled(fm::VelocityFromEpsilon(net, cosine), cosine, straight));
  net->to(torch::kDouble);
  fm::Rng rng(1, test_device());
  CHECK(fm::Sampler(fm::VelocityFromX1(net, straight), ode::Euler{}, fm::TimeGrid::uniform(2))
            .sample({3, 2}, rng)
            .dtype() == torch::kDouble);
}

TEST_CASE(
    "sampler: however many steps are made, samples in half precision come where they should") {
  const auto one = [](const at::Tensor& x, const at::Tensor&) { return at::ones_like(x); };
  for (const auto type : {torch::kBFloat16, torch::kHalf}) {
    const at::Tensor x_0 = on_device::randn({50, 2}).to(type);
    One net;
    net->to(type);
    for (const std::int64_t steps : {10, 2000}) {
      const fm::TimeGrid grid = fm::TimeGrid::uniform(steps);
      const at::Tensor x = fm::Sampler(one, ode::Euler{}, grid).sample_from(x_0);
      CHECK(close(x, x_0.to(torch::kFloat) + 1, 0, 1e-4));
      CHECK(at::equal(fm::Sampler(net, ode::Euler{}, grid).sample_from(x_0), x));
      fm::Rng a(3, test_device()), b(3, test_device());
      const at::Tensor drawn = fm::Sampler(net, ode::Euler{}, grid).sample({50, 2}, a);
      CHECK(close(drawn, b.normal({50, 2}) + 1, 0, 1e-4));
      const at::Tensor points = fm::Sampler(net, ode::Heun2{}, grid).trajectory(x_0);
      CHECK(close(points[-1] - points[0], on_device::ones({50, 2}), 0, 1e-3));
    }
    CHECK(close(fm::Sampler(net, ode::Dopri5{}).sample_from(x_0), x_0.to(torch::kFloat) + 1, 0,
                1e-4));
  }
}

TEST_CASE("sampler: a start in another precision than the network's") {
  networks::Mlp net;
  const at::Tensor x_0 = on_device::randn({4, 2}, torch::kDouble);
  fm::Sampler sampler(net, ode::RK4{}, fm::TimeGrid::uniform(3));
  const at::Tensor narrow = sampler.sample_from(x_0.to(torch::kFloat));
  CHECK(narrow.dtype() == torch::kFloat);
  CHECK(sampler.sample_from(x_0).dtype() == torch::kDouble);
  CHECK(close(sampler.sample_from(x_0).to(torch::kFloat), narrow, 1e-5, 1e-5));
  net->to(torch::kDouble);
  CHECK(sampler.sample_from(x_0.to(torch::kFloat)).dtype() == torch::kDouble);
}

TEST_CASE("sampler: fresh noise depends on the Rng alone, whatever the batches and threads") {
  const Threads two(2);
  // Of one block of noise, of many, and of samples larger than a block.
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{7, 2}, {5000, 7}, {3, 20000}}) {
    const auto drawn = [&](std::uint64_t seed, fm::SamplerOptions options) {
      fm::Rng rng(seed, test_device());
      return fm::Sampler(flow, fm::DpmSolver<2>{}, fm::TimeGrid::uniform(5), options)
          .sample(shape, rng);
    };
    const at::Tensor all = drawn(5, {});
    CHECK(at::equal(all, drawn(5, {})));
    CHECK_FALSE(close(all, drawn(6, {}), 0, 1e-2));
    for (const std::int64_t size : {1, 3, 1000}) {
      if (shape[0] / size > 100) continue;
      CHECK(close(drawn(5, {.batch_size = size}), all, 0, 1e-5));
      CHECK(close(drawn(5, {.batch_size = size, .parallel = true}), all, 0, 1e-5));
    }
    CHECK(close(drawn(5, {.parallel = true}), all, 0, 1e-5));
  }
}

TEST_CASE("sampler: fresh noise is other noise at each call, and in each sample and step") {
  const auto still = [](const at::Tensor& x, const at::Tensor& t) {
    return -x / (1 - fm::expand_time(t, x)).clamp_min(1e-6);  // to x_1 = 0: what is left is noise
  };
  fm::Sampler sampler(still, fm::DpmSolver<1>{}, fm::TimeGrid::nodes({0, 0.25, 0.5}));
  fm::Rng rng(1, test_device());
  const at::Tensor x_0 = on_device::zeros({30000, 2});
  const at::Tensor first = sampler.trajectory(x_0, rng);
  const at::Tensor second = sampler.trajectory(x_0, rng);
  const auto correlation = [](const at::Tensor& a, const at::Tensor& b) {
    return (a * b).mean().item<double>() / (a.std() * b.std()).item<double>();
  };
  const at::Tensor z = first[1];
  // sigma = (1 - s) sqrt(1 - e^-2h), which is 1 - s from t = 0 on.
  CHECK(z.std().item<double>() == Approx(0.75).epsilon(0.02));
  CHECK(z.mean().item<double>() == Approx(0).margin(0.02));
  CHECK(correlation(z, second[1]) == Approx(0).margin(0.02));
  CHECK(correlation(z, z.flip(1)) == Approx(0).margin(0.02));
  CHECK(correlation(z.slice(0, 0, 15000), z.slice(0, 15000)) == Approx(0).margin(0.03));
  // The second step keeps e^-h (1 - s) / (1 - t) of the first's noise, and adds its own.
  const double decay = 0.25 / 0.5 * (0.5 / 0.75);
  const at::Tensor added = first[2] - decay * 0.5 / 0.75 * z;
  CHECK(added.std().item<double>() == Approx(0.5 * std::sqrt(1 - decay * decay)).epsilon(0.02));
  CHECK(correlation(added, z) == Approx(0).margin(0.02));
}

TEST_CASE("sampler: methods that draw noise are chosen by name as the others") {
  for (const char* name :
       {"dpm_solver_1", "dpm_solver_2", "dpm_solver_3", "ancestral_euler", "euler_maruyama",
        "sde_heun", "dpm_solver_2s", "unipc_2", "unipc_3", "euler", "dopri5"}) {
    const std::string chosen = fm::with_method(name, [](auto method) {
      fm::Rng rng(1, test_device());
      const at::Tensor x =
          fm::Sampler(flow, method, fm::TimeGrid::uniform(200)).sample({4000, 1}, rng);
      CHECK(x.mean().item<double>() == Approx(mu).margin(0.05));
      CHECK(x.std().item<double>() == Approx(s).margin(0.05));
      return std::string(method.name);
    });
    CHECK(chosen == name);
  }
  require_error<fm::OptionError>(
      [] { fm::with_method("dpm", [](auto) {}); },
      "dopri8, dpm_solver_2s, unipc_2, unipc_3, dpm_solver_1, dpm_solver_2, dpm_solver_3, "
      "ancestral_euler, euler_maruyama, sde_heun, renoise");
}

TEST_CASE("sampler: what a model or an observer keeps stays as it was") {
  const at::Tensor x_0 = on_device::randn({6, 2});
  for (const char* name : {"euler", "midpoint", "rk4", "explicit_adams", "implicit_adams", "bosh3",
                           "dopri5", "dpm_solver_2"}) {
    fm::with_method(name, [&](auto method) {
      const auto keeping = std::make_shared<Keeping>();
      fm::SamplerOptions options;
      options.observer = [&](const fm::SampleStep& step) { return keeping->keep(step.x), true; };
      const auto check = [&](auto plan) {
        fm::Rng a(1, test_device()), b(1, test_device());
        const at::Tensor x = fm::Sampler(keeping, method, plan, options).sample_from(x_0, a);
        const AnyModel forgetful = [](const at::Tensor& y, const at::Tensor&) { return -y; };
        CHECK(at::equal(x, fm::Sampler(forgetful, method, plan).sample_from(x_0, b)));
        INFO(name);
        CHECK(keeping->unchanged());
      };
      check(fm::TimeGrid::uniform(6));
      if constexpr (ode::ErrorStepper<decltype(method), at::Tensor>)
        check(fm::AdaptiveOptions{.rtol = 1e-3, .atol = 1e-3});
    });
  }
}

TEST_CASE("sampler: a final step that is the grid's end but for roundings is taken") {
  for (std::int64_t i = 1; i < 100; ++i) {
    const double last = static_cast<double>(i) / 100;
    for (const double end : {static_cast<double>(100 - i) / 100, 1 - last, 1.0 - last + 1e-16}) {
      fm::Sampler sampler(flow, ode::Heun2{}, fm::TimeGrid::uniform(3, 0, end),
                          {.final_step = last});
      CHECK(sampler.solve(on_device::zeros({1, 1})).statistics.evaluations == 7);
    }
    CHECK_THROWS_AS(fm::Sampler(flow, ode::Heun2{}, fm::TimeGrid::uniform(3, 0, 1 - last + 1e-9),
                                {.final_step = last}),
                    fm::OptionError);
  }
}

TEST_CASE("sampler: a velocity that is singular at the end is sampled in one step, too") {
  const auto data = [](const at::Tensor& x, const at::Tensor&) { return at::full_like(x, 3); };
  fm::Sampler sampler(fm::VelocityFromX1(data, fm::CondOTScheduler{}), ode::Heun2{},
                      fm::TimeGrid::uniform(1));
  const fm::SampleResult result = sampler.solve(on_device::randn({4, 2}));
  CHECK(close(result.x, on_device::full({4, 2}, 3.0F), 0, 1e-6));
  CHECK(result.statistics.evaluations == 1);
}

TEST_CASE("sampler: a trajectory's start needs a dimension of samples") {
  require_error<fm::ShapeError>(
      [] { fm::Sampler(flow, ode::Dopri5{}).trajectory(on_device::tensor(1.0)); }, "start from");
}

TEST_CASE("sampler: a sample does not depend on how many come after it") {
  fm::Rng starts(1, test_device());
  const at::Tensor x_0 = starts.normal({9000, 2});
  fm::Sampler sampler(flow, fm::DpmSolver<2>{}, fm::TimeGrid::uniform(4));
  const auto first = [&](std::int64_t n) {
    fm::Rng rng(5, test_device());
    return sampler.sample_from(x_0.slice(0, 0, n), rng);
  };
  const at::Tensor all = first(9000);
  for (const std::int64_t n : {1, 7, 8, 9, 2048, 2049, 8195})
    CHECK(close(first(n), all.slice(0, 0, n), 0, 1e-5));
}

TEST_CASE("sampler: a model that writes into its x is refused") {
  const AnyModel writes = [](const at::Tensor& x, const at::Tensor&) {
    return x.clone().mul_(0) - at::Tensor(x).relu_();
  };
  fm::Sampler sampler(writes, ode::Heun2{}, fm::TimeGrid::uniform(3));
  require_error<fm::OptionError>(
      [&] {
        sampler.sample_from(on_device::randn({3, 2}));
      },
      "x.clone()");
}

TEST_CASE("sampler: samples that the step limit left behind are not handed out for whole ones") {
  const fm::AdaptiveOptions few{
      .rtol = 1e-8, .atol = 1e-8, .max_steps = 3, .at_limit = ode::AtLimit::stop};
  fm::Sampler sampler(flow, ode::Dopri5{}, few);
  const at::Tensor x_0 = on_device::randn({3, 2});
  CHECK(sampler.solve(x_0).statistics.status == ode::Status::step_limit);
  require_error<fm::SolverError>([&] { sampler.sample_from(x_0); }, "raise max_steps");
}

TEST_CASE("sampler: a final step of no length is refused") {
  require_error<fm::OptionError>(
      [] { fm::Sampler(flow, ode::Heun2{}, fm::TimeGrid::uniform(3), {.final_step = 1e-17}); },
      "choose one in [0, 1)");
}

TEST_CASE("sampler: samples start from another source where it is given") {
  fm::SamplerOptions options;
  options.source = [](at::IntArrayRef shape, fm::Rng& rng) { return 5 + rng.uniform(shape); };
  const auto still = [](const at::Tensor& x, const at::Tensor&) { return at::zeros_like(x); };
  fm::Rng rng(1, test_device()), same(1, test_device());
  fm::Sampler sampler(still, fm::ode::Euler{}, fm::TimeGrid::uniform(2), options);
  CHECK(at::equal(sampler.sample({4, 3}, rng), 5 + same.uniform({4, 3})));
  options.source = [](at::IntArrayRef, fm::Rng&) { return on_device::zeros({2}); };
  fm::Sampler wrong(still, fm::ode::Euler{}, fm::TimeGrid::uniform(2), options);
  require_error<fm::ShapeError>(
      [&] {
        wrong.sample({4, 3}, rng);
      },
      "the source gave x_0 of shape [2]");
}

namespace {

/// Wide enough that two threads share an evaluation of 1,000 samples; a user's class, which notes
/// what it sees and may draw.
struct Wide : networks::MlpImpl {
  Wide() : MlpImpl(2, 64) {}
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t) {
    seen = x;
    if (at::get_num_threads() > 1) all_threads = true;
    const at::Tensor v = MlpImpl::forward(x, t);
    return draws ? v + 0.1 * at::randn_like(v) : v;
  }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t, const at::Tensor& label) {
    return forward(x, t) + label.unsqueeze(1);
  }
  at::Tensor seen{};
  bool draws = false;
  static inline std::atomic<bool> all_threads = false;  // were there for one operation
};

}  // namespace

TEST_CASE("sampler: evaluations in parts change nothing but roundings", "[cpu]") {
  const Threads two(2);
  at::manual_seed(1);
  const auto net = std::make_shared<Wide>();
  const at::Tensor x_0 = at::randn({1001, 2});
  const at::Tensor label = at::arange(1001) % 3;
  const auto solve = [&](auto method, auto plan, std::optional<bool> parallel) {
    std::vector<std::int64_t> heard;
    fm::SamplerOptions options{.parallel = parallel};
    options.observer = [&](const fm::SampleStep& step) {
      heard.push_back(step.x.size(0));
      return true;
    };
    const fm::SampleResult result = fm::Sampler(net, method, plan, options).solve(x_0, label);
    CHECK(heard == std::vector<std::int64_t>(heard.size(), 1001));
    return result;
  };
  const auto both = [&](auto method, auto plan) {
    const fm::SampleResult whole = solve(method, plan, false);
    CHECK(net->seen.size(0) == 1001);
    CHECK(Wide::all_threads.exchange(false));
    const fm::SampleResult parts = solve(method, plan, {});
    CHECK(!Wide::all_threads);         // they would spin beside the parts, from the trial on
    CHECK(net->seen.size(0) == 1001);  // copies saw the parts
    CHECK(close(parts.x, whole.x, 1e-4, 1e-5));
    CHECK(parts.statistics.evaluations == whole.statistics.evaluations);
  };
  both(ode::RK4{}, fm::TimeGrid::uniform(4));
  both(ode::Dopri5{}, fm::AdaptiveOptions{.rtol = 1e-4, .atol = 1e-4});
  CHECK(at::get_num_threads() == 2);

  net->draws = true;
  const auto drawn = [&] {
    at::manual_seed(7);
    return solve(ode::Euler{}, fm::TimeGrid::uniform(10), {}).x;
  };
  CHECK(at::equal(drawn(), drawn()));
  net->draws = false;
}

TEST_CASE("sampler: a model that fails in one part tells so", "[cpu]") {
  const Threads two(2);
  struct Failing : Wide {
    at::Tensor forward(const at::Tensor& x, const at::Tensor& t) {
      if (x.size(0) == 501) throw std::runtime_error("the second part");
      return Wide::forward(x, t);
    }
  };
  const auto net = std::make_shared<Failing>();
  fm::Sampler sampler(net, ode::Euler{}, fm::TimeGrid::uniform(3));
  CHECK_THROWS_AS(sampler.sample_from(at::randn({1001, 2})), std::runtime_error);
  CHECK(at::get_num_threads() == 2);
}

TEST_CASE("sampler: a model whose samples look at one another is asked for all at once", "[cpu]") {
  const Threads two(2);
  struct Centred : Wide {
    at::Tensor forward(const at::Tensor& x, const at::Tensor& t) {
      return Wide::forward(x - x.mean(0, true), t);
    }
  };
  at::manual_seed(1);
  const auto net = std::make_shared<Centred>();
  const at::Tensor x_0 = at::randn({1001, 2});
  const auto solve = [&](std::optional<bool> parallel) {
    const auto grid = fm::TimeGrid::uniform(3);
    return fm::Sampler(net, ode::Euler{}, grid, {.parallel = parallel}).sample_from(x_0);
  };
  CHECK(at::equal(solve({}), solve(false)));
}
