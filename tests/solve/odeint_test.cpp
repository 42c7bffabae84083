#include "flowmatch/solve/odeint.hpp"

#include <ATen/record_function.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string_view>

#include "flowmatch/ode/method.hpp"
#include "tests/support/finite_difference.hpp"
#include "tests/support/test.hpp"

namespace ode = flowmatch::ode;

namespace {

/// One type for all lambdas: the solvers are compiled once for all of them.
using Velocity = std::function<at::Tensor(const at::Tensor&, double)>;

const Velocity decay = [](const at::Tensor& x, double t) { return -t * x; };

at::Tensor solution(const at::Tensor& x_0, double t) { return x_0 * std::exp(-t * t / 2); }

}  // namespace

TEST_CASE("odeint: dopri5 gives the solution at all requested times rising and falling") {
  const at::Tensor x_0 = on_device::randn({5, 2}, torch::kDouble);
  const std::vector<double> times = {0, 0.3, 0.5, 2};
  const fm::OdeResult up =
      fm::odeint(decay, x_0, times, ode::Dopri5{}, {.adaptive = {.rtol = 1e-9, .atol = 1e-9}});
  REQUIRE(up.x.sizes() == at::IntArrayRef{4, 5, 2});
  for (std::int64_t i = 0; i < 4; ++i)
    CHECK(close(up.x[i], solution(x_0, times[static_cast<std::size_t>(i)]), 1e-7, 1e-8));
  // One solve through all the times, not one for each.
  CHECK(up.statistics.evaluations == 2 + 6 * (up.statistics.accepted + up.statistics.rejected));
  const fm::OdeResult down = fm::odeint(decay, up.x[3], {2, 1, 0}, ode::Dopri5{},
                                        {.adaptive = {.rtol = 1e-9, .atol = 1e-9}});
  CHECK(close(down.x[2], x_0, 1e-6, 1e-7));
}

TEST_CASE("odeint: every fixed-step method comes close and counts its evaluations") {
  const at::Tensor x_0 = on_device::ones({3}, torch::kDouble);
  for (const char* name : {"euler", "midpoint", "heun2", "heun3", "rk4", "rk4_classic"}) {
    ode::with_method(name, [&](auto method) {
      const fm::OdeResult r = fm::odeint(decay, x_0, {0, 0.5, 1}, method, {.steps = 100});
      INFO(name);
      CHECK(close(r.x[2], solution(x_0, 1), method.order == 1 ? 1e-2 : 1e-5, 1e-6));
      if constexpr (decltype(method)::name != std::string_view("dopri5")) {
        CHECK(r.statistics.evaluations == 200 * method.stages);
      }
    });
  }
}

TEST_CASE("odeint: gradients of the start and of parameters equal finite differences") {
  const std::vector<double> times = {0, 0.4, 1};
  const auto loss_of = [&](const at::Tensor& x_0, const at::Tensor& w, auto method) {
    const Velocity f = [&w](const at::Tensor& x, double t) {
      return at::tanh(at::matmul(x, w)) * (1 + t);
    };
    const fm::OdeResult r =
        fm::odeint(f, x_0, times, method, {.steps = 4, .adaptive = {.rtol = 1e-10, .atol = 1e-10}});
    return r.x[1].sum() + r.x[2].square().sum();
  };
  const auto check = [&](auto method) {
    torch::manual_seed(3);
    at::Tensor x_0 = on_device::randn({2, 3}, torch::kDouble).requires_grad_();
    at::Tensor w = on_device::randn({3, 3}, torch::kDouble).requires_grad_();
    loss_of(x_0, w, method).backward();
    const at::NoGradGuard no_grad;
    for (at::Tensor& p : std::vector<at::Tensor>{x_0, w}) {
      const at::Tensor flat = p.detach().view({-1});
      const at::Tensor gradient = p.grad().view({-1});
      for (std::int64_t i = 0; i < flat.numel(); ++i) {
        const double expected = finite_difference(
            flat[i],
            [&] { return loss_of(x_0.detach(), w.detach(), method).template item<double>(); },
            1e-6);
        INFO(method.name << ", element " << i);
        CHECK(gradient[i].item<double>() == Approx(expected).epsilon(1e-5).margin(1e-7));
      }
    }
  };
  check(ode::Euler{});
  check(ode::RK4{});
  check(ode::Dopri5{});
}

TEST_CASE("odeint: with and without gradients the values are the same") {
  const at::Tensor x_0 = on_device::randn({4, 3}, torch::kDouble);
  for (const bool grad : {true, false}) {
    const at::AutoGradMode mode(grad);
    const at::Tensor before = x_0.clone();
    const fm::OdeResult r =
        fm::odeint(decay, x_0, {0, 1}, ode::Dopri5{}, {.adaptive = {.rtol = 1e-9, .atol = 1e-9}});
    CHECK(close(r.x[1], solution(x_0, 1), 1e-7, 1e-8));
    CHECK(at::equal(x_0, before));
  }
}

TEST_CASE("odeint: a function that returns its input or one buffer each time is solved right") {
  const at::NoGradGuard no_grad;
  const at::Tensor x_0 = on_device::ones({3}, torch::kDouble);
  const Velocity itself = [](const at::Tensor& x, double) { return x; };
  at::Tensor buffer = on_device::zeros({3}, torch::kDouble);
  const Velocity reused = [&buffer](const at::Tensor& x, double) {
    buffer.copy_(x);
    return buffer;
  };
  for (const char* name : {"euler", "midpoint", "heun2", "heun3", "rk4", "rk4_classic", "dopri5"}) {
    ode::with_method(name, [&](auto method) {
      INFO(name);
      const fm::OdeOptions options{.steps = 20, .adaptive = {.rtol = 1e-8, .atol = 1e-8}};
      const at::Tensor fresh =
          fm::odeint(Velocity([](const at::Tensor& x, double) { return x.clone(); }), x_0, {0, 1},
                     method, options)
              .x;
      CHECK(at::equal(fm::odeint(itself, x_0, {0, 1}, method, options).x, fresh));
      CHECK(at::equal(fm::odeint(reused, x_0, {0, 1}, method, options).x, fresh));
      CHECK(at::equal(x_0, on_device::ones({3}, torch::kDouble)));
    });
  }
}

TEST_CASE("odeint: strided and channels-last and empty states are solved") {
  const at::NoGradGuard no_grad;
  const at::Tensor strided = on_device::randn({6, 4}, torch::kDouble).t();
  CHECK(close(fm::odeint(decay, strided, {0, 1}, ode::RK4{}, {.steps = 20}).x[1],
              solution(strided, 1), 1e-5, 1e-6));
  const at::Tensor images =
      on_device::randn({2, 3, 4, 4}).contiguous(at::MemoryFormat::ChannelsLast);
  CHECK(close(fm::odeint(decay, images, {0, 1}).x[1], solution(images, 1), 1e-4, 1e-4));
  CHECK(fm::odeint(decay, on_device::empty({0, 3}), {0, 1}).x.sizes() == at::IntArrayRef{2, 0, 3});
}

TEST_CASE("odeint: a function may write into the tensor it is given with gradients on and off") {
  const auto writes = [](const at::Tensor& x, double t, at::Tensor& dxdt) { dxdt.copy_(-t * x); };
  const at::Tensor x_0 = on_device::randn({4, 2}, torch::kDouble).requires_grad_();
  const auto solve = [&](auto method) {
    const fm::OdeOptions options{.steps = 10, .adaptive = {.rtol = 1e-8, .atol = 1e-8}};
    at::Tensor with;
    {
      const at::AutoGradMode on(true);
      with = fm::odeint(writes, x_0, {0, 0.5, 1}, method, options).x;
      CHECK(
          close(torch::autograd::grad({with[2].sum()}, {x_0})[0],
                torch::autograd::grad(
                    {fm::odeint(decay, x_0, {0, 0.5, 1}, method, options).x[2].sum()}, {x_0})[0]));
    }
    const at::NoGradGuard no_grad;
    CHECK(close(fm::odeint(writes, x_0, {0, 0.5, 1}, method, options).x, with, 1e-13, 1e-13));
    CHECK(close(fm::odeint(decay, x_0, {0, 0.5, 1}, method, options).x, with, 1e-13, 1e-13));
  };
  solve(ode::Heun3{});
  solve(ode::Dopri5{});
}

TEST_CASE("odeint: a complex state turns as its equation says") {
  const at::Tensor x_0 = on_device::ones({2}, torch::kComplexDouble);
  const auto turn = [](const at::Tensor& x, double) { return x * c10::complex<double>(0, 1); };
  const at::Tensor x =
      fm::odeint(turn, x_0, {0, 2}, ode::Dopri5{}, {.adaptive = {.rtol = 1e-9, .atol = 1e-9}}).x[1];
  CHECK(close(at::real(x), doubles({std::cos(2.0), std::cos(2.0)}), 0, 1e-7));
  CHECK(close(at::imag(x), doubles({std::sin(2.0), std::sin(2.0)}), 0, 1e-7));
}

TEST_CASE("odeint: fixed-step solves read nothing back and dopri5 one number a step") {
  // Every read to the host is one aten::_local_scalar_dense: on a GPU it waits.
  static std::atomic<int> reads = 0;
  const auto handle =
      at::addThreadLocalCallback(at::RecordFunctionCallback([](const at::RecordFunction& op) {
                                   if (std::string_view(op.name()) == "aten::_local_scalar_dense")
                                     ++reads;
                                   return std::unique_ptr<at::ObserverContext>();
                                 }).scopes({at::RecordScope::FUNCTION}));
  const at::Tensor x_0 = on_device::randn({1 << 15, 3});  // small ones on the CPU need no operation
  for (const bool gradients : {false, true}) {
    const at::AutoGradMode mode(gradients);
    for (const char* name : {"euler", "midpoint", "heun2", "heun3", "rk4", "rk4_classic"}) {
      reads = 0;
      ode::with_method(name, [&](auto method) {
        if constexpr (!ode::ErrorStepper<decltype(method), at::Tensor>) {
          fm::odeint(decay, x_0, {0, 0.5, 1}, method, {.steps = 5});
        }
      });
      INFO(name);
      CHECK(reads == 0);
    }
    reads = 0;
    const ode::Statistics s = fm::odeint(decay, x_0, {0, 0.5, 1}).statistics;
    // Three more choose the first step.
    CHECK(reads == s.accepted + s.rejected + 3);
  }
  at::removeCallback(handle);
}

TEST_CASE("odeint: bad input is refused with a remedy") {
  const at::Tensor x = on_device::ones({2});
  require_error<fm::OptionError>([&] { fm::odeint(decay, x, {0}); }, "at least two times");
  require_error<fm::OptionError>([&] { fm::odeint(decay, x, {0, 1, 0.5}); }, "rise or fall");
  require_error<fm::OptionError>(
      [&] {
        fm::odeint(decay, x, {0, 1}, ode::Euler{}, {.steps = 0});
      },
      "at least 1 step");
  require_error<fm::OptionError>(
      [&] {
        fm::odeint(decay, x, {0, 1}, ode::Dopri5{}, {.adaptive = {.rtol = -1}});
      },
      "rtol is");
  const Velocity shrinks = [](const at::Tensor& y, double) { return y.slice(0, 0, 1); };
  require_error<fm::ShapeError>([&] { fm::odeint(shrinks, x, {0, 1}); }, "the model's output");
  const Velocity breaks = [](const at::Tensor& y, double t) {
    return t > 0.5 ? y * std::numeric_limits<double>::quiet_NaN() : y;
  };
  require_error<fm::SolverError>([&] { fm::odeint(breaks, x, {0, 1}); }, "NaN or infinite");
}

TEST_CASE("odeint: steps in place and functional steps give the same for every method") {
  torch::manual_seed(5);
  const at::Tensor w = on_device::randn({3, 3}, torch::kDouble);
  const Velocity f = [&w](const at::Tensor& x, double t) { return at::tanh(at::matmul(x, w)) - t; };
  const at::Tensor x_0 = on_device::randn({4, 3}, torch::kDouble);
  for (const char* name : {"euler", "midpoint", "heun2", "heun3", "rk4", "rk4_classic", "dopri5"}) {
    ode::with_method(name, [&](auto method) {
      INFO(name);
      const at::Tensor functional = fm::odeint(f, x_0, {0.1, 0.4, 0.7}, method, {.steps = 5}).x;
      const at::NoGradGuard no_grad;
      const at::Tensor in_place = fm::odeint(f, x_0, {0.1, 0.4, 0.7}, method, {.steps = 5}).x;
      CHECK(close(in_place, functional, 1e-14, 1e-14));
    });
  }
}

TEST_CASE("odeint: one buffer for all outputs is no trouble with gradients on either") {
  REQUIRE(at::GradMode::is_enabled());
  const at::Tensor x_0 = on_device::ones({3}, torch::kDouble);
  at::Tensor buffer = on_device::zeros({3}, torch::kDouble);
  const Velocity reused = [&buffer](const at::Tensor& x, double t) {
    buffer.copy_(x * t);
    return buffer;
  };
  const Velocity view_of_it = [&buffer](const at::Tensor& x, double t) {
    buffer.copy_(x * t);
    return buffer.view({3});
  };
  const Velocity fresh = [](const at::Tensor& x, double t) { return x * t; };
  for (const char* name : {"euler", "midpoint", "heun2", "heun3", "rk4", "rk4_classic", "dopri5"}) {
    ode::with_method(name, [&](auto method) {
      INFO(name);
      const at::Tensor expected = fm::odeint(fresh, x_0, {0, 1}, method, {.steps = 4}).x;
      CHECK(at::equal(fm::odeint(reused, x_0, {0, 1}, method, {.steps = 4}).x, expected));
      CHECK(at::equal(fm::odeint(view_of_it, x_0, {0, 1}, method, {.steps = 4}).x, expected));
    });
  }
  // The identity carries its gradient through what it returns: d(e x_0)/d x_0.
  const at::Tensor start = on_device::ones({3}, torch::kDouble).requires_grad_();
  fm::odeint([](const at::Tensor& x, double) { return x; }, start, {0, 1}, ode::RK4{},
             {.steps = 20})
      .x[1]
      .sum()
      .backward();
  CHECK(close(start.grad(), on_device::full({3}, std::exp(1.0), torch::kDouble), 1e-6, 1e-6));
}

TEST_CASE("odeint: the state keeps its dtype whatever the function answers in") {
  const Velocity doubles_out = [](const at::Tensor& x, double) { return -x.to(torch::kDouble); };
  const Velocity halves_out = [](const at::Tensor& x, double) { return -x.to(torch::kBFloat16); };
  const at::Tensor x_0 = on_device::full({4}, 1.5F);
  for (const bool grad : {true, false}) {
    const at::AutoGradMode mode(grad);
    const fm::OdeResult wide = fm::odeint(doubles_out, x_0, {0, 1});
    CHECK(wide.x.dtype() == torch::kFloat);
    CHECK(close(wide.x[1], x_0 * std::exp(-1), 1e-4, 1e-5));
    const fm::OdeResult narrow = fm::odeint(halves_out, x_0, {0, 1}, ode::Dopri5{},
                                            {.adaptive = {.rtol = 1e-2, .atol = 1e-2}});
    CHECK(narrow.x.dtype() == torch::kFloat);
    CHECK(close(narrow.x[1], x_0 * std::exp(-1), 2e-2, 1e-2));
    CHECK(narrow.statistics.accepted < 30);
  }
}

TEST_CASE("odeint: float16 states do not overflow in the error norm") {
  const at::NoGradGuard no_grad;
  const at::Tensor x_0 = on_device::full({8}, 2.0, torch::kHalf);
  // |x| / (atol + rtol |x|) is beyond 65504, float16's largest.
  const fm::OdeResult r =
      fm::odeint([](const at::Tensor& x, double) { return at::ones_like(x); }, x_0, {0, 1},
                 ode::Dopri5{}, {.adaptive = {.rtol = 0, .atol = 1e-5, .min_step = 0.05}});
  CHECK(r.x.dtype() == torch::kHalf);
  CHECK(close(r.x[1], x_0 + 1, 1e-2, 1e-2));
}

TEST_CASE("odeint: the function is asked for times between those requested only") {
  const auto check = [](const std::vector<double>& times) {
    for (const char* name :
         {"euler", "midpoint", "heun2", "heun3", "rk4", "rk4_classic", "dopri5"}) {
      ode::with_method(name, [&](auto method) {
        std::vector<double> asked;
        const Velocity f = [&asked](const at::Tensor& x, double t) {
          asked.push_back(t);
          return -x;
        };
        const fm::OdeResult r = fm::odeint(f, on_device::ones({2}), times, method, {.steps = 3});
        INFO(name);
        CHECK(static_cast<std::int64_t>(asked.size()) == r.statistics.evaluations);
        for (const double t : asked) {
          CHECK(t >= std::min(times.front(), times.back()));
          CHECK(t <= std::max(times.front(), times.back()));
        }
      });
    }
  };
  check({0.1, 0.3, 0.7});
  check({0.7, 0.4, 0.1});
}

TEST_CASE("odeint: a start that needs gradients stays as it is and gives none with gradients off") {
  const at::Tensor x_0 = on_device::ones({3}, torch::kDouble).requires_grad_();
  const at::NoGradGuard no_grad;
  const at::Tensor x = fm::odeint(decay, x_0, {0, 1}, ode::RK4{}, {.steps = 8}).x;
  CHECK_FALSE(x.requires_grad());
  CHECK(at::equal(x_0, on_device::ones({3}, torch::kDouble)));
  CHECK(close(x[1], solution(x_0, 1), 1e-5, 1e-6));
}

TEST_CASE("odeint: starts that are not floating and outputs that cannot broadcast are refused") {
  require_error<fm::ShapeError>(
      [] {
        fm::odeint(decay, on_device::arange(3), {0, 1});
      },
      "starts from a floating tensor");
  require_error<fm::ShapeError>([] { fm::odeint(decay, at::Tensor{}, {0, 1}); }, "undefined");
  const auto grows = [](const at::Tensor& x, double) { return at::cat({x, x}); };
  for (const bool grad : {true, false}) {
    const at::AutoGradMode mode(grad);
    const at::Tensor x = on_device::ones({3});
    require_error<fm::ShapeError>([&] { fm::odeint(grows, x, {0, 1}); }, "shape [6]");
    require_error<fm::ShapeError>([&] { fm::odeint(grows, x, {0, 1}, ode::Heun2{}); }, "shape [6]");
    const auto nothing = [](const at::Tensor&, double) { return at::Tensor{}; };
    require_error<fm::ShapeError>([&] { fm::odeint(nothing, x, {0, 1}); }, "undefined");
  }
}

TEST_CASE("odeint: half precision is summed in float32") {
  const auto one = [](const at::Tensor& x, double) {
    REQUIRE(x.dtype() == torch::kBFloat16);
    return at::ones_like(x);
  };
  const auto written = [](const at::Tensor& x, double, at::Tensor& out) { out = at::ones_like(x); };
  const at::Tensor x_0 = on_device::zeros({4}, torch::kBFloat16);
  const fm::OdeOptions many{.steps = 3000};
  for (const bool grad : {false, true}) {
    const at::AutoGradMode mode(grad);
    const at::Tensor end = fm::odeint(one, x_0, {0, 1}, ode::Euler{}, many).x[1];
    CHECK(end.dtype() == torch::kBFloat16);
    CHECK(close(end, on_device::ones({4}, torch::kBFloat16)));
    CHECK(close(fm::odeint(written, x_0, {0, 1}, ode::Euler{}, many).x[1], end));
  }
  at::Tensor start = x_0.clone().requires_grad_();
  fm::odeint(one, start, {0, 1}, ode::RK4{}, {.steps = 4}).x[1].sum().backward();
  CHECK(at::equal(start.grad(), on_device::ones({4}, torch::kBFloat16)));
}

TEST_CASE("odeint: a model that answers in memory of its own is solved as any other", "[cpu]") {
  // As other runtimes do: each call's tensor is a new one over the same memory.
  std::vector<float> buffer(8);
  const Velocity plain = [](const at::Tensor& x, double t) { return (-x + t).contiguous(); };
  const Velocity lent = [&](const at::Tensor& x, double t) {
    const at::Tensor v = plain(x, t);
    std::copy_n(v.const_data_ptr<float>(), 8, buffer.begin());
    return at::from_blob(buffer.data(), x.sizes());
  };
  const at::Tensor x_0 = on_device::ones({4, 2});
  for (const bool gradients : {false, true}) {
    const at::AutoGradMode mode(gradients);
    for (const char* name :
         {"euler", "heun2", "rk4", "explicit_adams", "implicit_adams", "dopri5"}) {
      INFO(name);
      ode::with_method(name, [&](auto method) {
        const fm::OdeOptions options{.steps = 6};
        const at::Tensor x = fm::odeint(lent, x_0, {0, 0.5, 1}, method, options).x;
        CHECK(at::equal(x, fm::odeint(plain, x_0, {0, 0.5, 1}, method, options).x));
        // 2 exp(-1), since x = t - 1 + 2 exp(-t).
        CHECK(close(x[2], on_device::full({4, 2}, 2 * std::exp(-1.0F)),
                    method.order == 1 ? 0.2 : 5e-3, 0));
      });
    }
  }
}

TEST_CASE("odeint: a solve that may end early is refused") {
  require_error<fm::OptionError>(
      [&] {
        fm::odeint(decay, on_device::ones({2}), {0, 1}, ode::Dopri5{},
                   {.adaptive = {.at_limit = ode::AtLimit::stop}});
      },
      "where AtLimit::stop may not come");
}

TEST_CASE("odeint: complex half precision is summed in complex64") {
  const auto one = [](const at::Tensor& x, double) {
    REQUIRE(x.dtype() == torch::kComplexHalf);
    return at::ones_like(x);
  };
  const at::Tensor x_0 = on_device::zeros({2}, torch::kComplexHalf);
  for (const bool grad : {false, true}) {
    const at::AutoGradMode mode(grad);
    const at::Tensor end = fm::odeint(one, x_0, {0, 1}, ode::Euler{}, {.steps = 5000}).x[1];
    CHECK(end.dtype() == torch::kComplexHalf);
    CHECK(at::equal(at::view_as_real(end.to(at::kComplexFloat)),
                    on_device::tensor({{1.0F, 0.0F}, {1.0F, 0.0F}})));
  }
}
