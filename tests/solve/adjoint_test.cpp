#include "flowmatch/solve/adjoint.hpp"

#include <cmath>

#include "flowmatch/solve/odeint.hpp"
#include "tests/support/finite_difference.hpp"
#include "tests/support/networks.hpp"
#include "tests/support/test.hpp"

namespace ode = flowmatch::ode;

namespace {

const ode::AdaptiveOptions tight{.rtol = 1e-9, .atol = 1e-9};

/// On the CPU, wherever the state is.
at::Tensor at_times(const std::vector<double>& t) { return torch::tensor(t, torch::kDouble); }

}  // namespace

TEST_CASE("adjoint: gradients of a network's solution agree with finite differences") {
  torch::manual_seed(0);
  networks::Mlp net(2, 8);
  net->to(torch::kDouble);
  at::Tensor x_0 = on_device::randn({3, 2}, torch::kDouble).requires_grad_();
  at::Tensor times = at_times({0, 0.4, 1}).requires_grad_();
  const at::Tensor weights = on_device::randn({3, 3, 2}, torch::kDouble);  // every output counts
  const auto f = [&](const at::Tensor& x, double t) {
    return net->forward(x, on_device::full({x.size(0)}, t, torch::kDouble));
  };
  const auto loss = [&] {
    return (fm::odeint_adjoint(f, x_0, times, net->parameters(), ode::Dopri5{}, tight) * weights)
        .sum();
  };
  loss().backward();
  const auto value = [&] { return loss().item<double>(); };
  CHECK(x_0.grad()[1][0].item<double>() ==
        Approx(finite_difference(x_0.detach()[1][0], value)).epsilon(1e-6));
  CHECK(x_0.grad()[2][1].item<double>() ==
        Approx(finite_difference(x_0.detach()[2][1], value)).epsilon(1e-6));
  for (const at::Tensor& p : net->parameters()) {
    at::Tensor flat = p.detach().view({-1});
    CHECK(p.grad().view({-1})[1].item<double>() ==
          Approx(finite_difference(flat[1], value)).epsilon(1e-5).margin(1e-8));
  }
  for (std::int64_t i = 0; i < 3; ++i) {
    CHECK(times.grad()[i].item<double>() ==
          Approx(finite_difference(times.detach()[i], value)).epsilon(1e-5));
  }
}

TEST_CASE("adjoint: gradients agree with those through the solver, forward and in reverse") {
  for (const bool reverse : {false, true}) {
    torch::manual_seed(1);
    networks::Mlp net(3, 8);
    net->to(torch::kDouble);
    const auto f = [&](const at::Tensor& x, double t) {
      return net->forward(x, on_device::full({x.size(0)}, t, torch::kDouble));
    };
    const at::Tensor start = on_device::randn({2, 3}, torch::kDouble);
    const double t0 = reverse ? 1 : 0;
    at::Tensor a = start.clone().requires_grad_();
    fm::odeint(f, a, {t0, 1 - t0}, ode::Tsit5{}, {.adaptive = tight})
        .x[1]
        .square()
        .sum()
        .backward();
    std::vector<at::Tensor> through;
    for (const at::Tensor& p : net->parameters()) through.push_back(p.grad().clone());
    net->zero_grad();
    at::Tensor b = start.clone().requires_grad_();
    fm::odeint_adjoint(f, b, at_times({t0, 1 - t0}), net->parameters(), ode::Tsit5{}, tight)[1]
        .square()
        .sum()
        .backward();
    CHECK(close(a.grad(), b.grad(), 1e-6, 1e-7));
    for (std::size_t i = 0; i < through.size(); ++i)
      CHECK(close(net->parameters()[i].grad(), through[i], 1e-6, 1e-7));
  }
}

TEST_CASE("adjoint: what needs no gradient gets none and a field without parameters is solved") {
  at::Tensor x_0 = on_device::ones({2}, torch::kDouble).requires_grad_();
  const auto falling = [](const at::Tensor& x, double) { return -x; };
  const at::Tensor x = fm::odeint_adjoint(falling, x_0, at_times({0, 1}), {}, ode::Dopri5{}, tight);
  CHECK(close(x[1].detach(), on_device::full({2}, std::exp(-1.0), torch::kDouble), 1e-8, 1e-8));
  x[1].sum().backward();
  CHECK(close(x_0.grad(), on_device::full({2}, std::exp(-1.0), torch::kDouble), 1e-7, 1e-8));
  const at::Tensor plain = on_device::ones({2}, torch::kDouble);
  CHECK_FALSE(fm::odeint_adjoint(falling, plain, at_times({0, 1}), {}).requires_grad());
  const auto constant = [](const at::Tensor& y, double) { return at::ones_like(y); };
  at::Tensor y_0 = on_device::ones({2}, torch::kDouble).requires_grad_();
  fm::odeint_adjoint(constant, y_0, at_times({0, 1}), {})[1].sum().backward();
  CHECK(close(y_0.grad(), on_device::ones({2}, torch::kDouble)));
}

TEST_CASE("adjoint: bad input is refused with a remedy") {
  const auto falling = [](const at::Tensor& x, double) { return -x; };
  const at::Tensor x_0 = on_device::ones({2});
  require_error<fm::ShapeError>([&] { fm::odeint_adjoint(falling, x_0, on_device::ones({2}), {}); },
                                "float64 tensor [T] on the CPU");
  require_error<fm::OptionError>(
      [&] {
        fm::odeint_adjoint(falling, x_0, at_times({0, 0}), {});
      },
      "rise or fall");
  require_error<fm::ShapeError>(
      [&] {
        fm::odeint_adjoint(falling, on_device::arange(2), at_times({0, 1}), {});
      },
      "floating tensor");
}

TEST_CASE("adjoint: a derivative that was not recorded is no zero") {
  const auto guarded = [](const at::Tensor& x, double) {
    const at::NoGradGuard none;
    return -x;
  };
  at::Tensor x_0 = on_device::ones({2}, torch::kDouble).requires_grad_();
  const at::Tensor x = fm::odeint_adjoint(guarded, x_0, at_times({0, 1}), {}, ode::Dopri5{}, tight);
  require_error<fm::OptionError>([&] { x[1].sum().backward(); }, "recorded no derivative");
  require_error<fm::ShapeError>(
      [&] {
        fm::odeint_adjoint(guarded, on_device::ones({2}, torch::kHalf), at_times({0, 1}), {});
      },
      "float32 or float64");
}

TEST_CASE("adjoint: the way there looks at the error of every element") {
  const auto turn = [](const at::Tensor& x, double) {
    return at::stack({at::zeros_like(x[0]), 40 * x[2], -40 * x[1]});
  };
  const at::Tensor x_0 = doubles({1, 0, 1});  // the first element does not move
  const at::Tensor x = fm::odeint_adjoint(turn, x_0, at_times({0, 1}), {}, ode::Dopri5{}, tight)[1];
  CHECK(close(x, doubles({1, std::sin(40.0), std::cos(40.0)}), 0, 1e-6));
}

TEST_CASE("adjoint: a parameter or a state that the field does not use has a gradient of 0") {
  at::Tensor x_0 = on_device::ones({2}, torch::kDouble).requires_grad_();
  const at::Tensor used = on_device::ones({2}, torch::kDouble).requires_grad_();
  const at::Tensor unused = on_device::ones({3}, torch::kDouble).requires_grad_();
  const auto driven = [&](const at::Tensor&, double t) { return used * t; };
  fm::odeint_adjoint(driven, x_0, at_times({0, 2}), {unused, used}, ode::Dopri5{}, tight)[1]
      .sum()
      .backward();
  CHECK(close(x_0.grad(), on_device::ones({2}, torch::kDouble), 1e-9, 1e-9));
  CHECK(close(used.grad(), on_device::full({2}, 2.0, torch::kDouble), 1e-9, 1e-9));
  CHECK(close(unused.grad(), on_device::zeros({3}, torch::kDouble)));
}

TEST_CASE("adjoint: what the field keeps of its inputs stays as it was") {
  std::vector<std::pair<at::Tensor, at::Tensor>> kept;
  const auto falling = [&](const at::Tensor& x, double) {
    kept.emplace_back(x, x.detach().clone());
    return -x;
  };
  at::Tensor x_0 = doubles({1, 2}).requires_grad_();
  fm::odeint_adjoint(falling, x_0, at_times({0, 1}), {}, ode::Dopri5{}, tight)[1].sum().backward();
  for (const auto& [x, then] : kept) CHECK(at::equal(x.detach(), then));
}

TEST_CASE("adjoint: a parameter that is named twice has its gradient once") {
  const at::Tensor w = on_device::full({2}, 0.5, torch::kDouble).requires_grad_();
  const auto driven = [&](const at::Tensor& x, double) { return w * at::ones_like(x); };
  fm::odeint_adjoint(driven, on_device::ones({2}, torch::kDouble), at_times({0, 2}), {w, w},
                     ode::Dopri5{}, tight)[1]
      .sum()
      .backward();
  CHECK(close(w.grad(), on_device::full({2}, 2.0, torch::kDouble), 1e-9, 1e-9));
}

TEST_CASE("adjoint: second derivatives and solves that may end early are refused") {
  at::Tensor x_0 = on_device::ones({2}, torch::kDouble).requires_grad_();
  const auto falling = [](const at::Tensor& x, double) { return -x; };
  const at::Tensor x = fm::odeint_adjoint(falling, x_0, at_times({0, 1}), {})[1];
  require_error<fm::OptionError>(
      [&] {
        torch::autograd::grad({x.sum()}, {x_0}, {}, /*retain_graph=*/true, /*create_graph=*/true);
      },
      "no second derivatives");
  require_error<fm::OptionError>(
      [&] {
        fm::odeint_adjoint(falling, x_0, at_times({0, 1}), {}, ode::Dopri5{},
                           {.at_limit = ode::AtLimit::stop});
      },
      "where AtLimit::stop may not come");
}

TEST_CASE("adjoint: a hidden derivative is found beside a large state, and NaN is called so") {
  const auto hidden = [](const at::Tensor& x, double) { return x.detach() * 1e-8; };
  for (const double size : {0.0, 1.0, 1e7, -1e7}) {
    INFO(size);
    at::Tensor x_0 = on_device::full({2}, size, torch::kFloat).requires_grad_();
    const at::Tensor x = fm::odeint_adjoint(hidden, x_0, at_times({0, 1}), {})[1];
    require_error<fm::OptionError>([&] { x.sum().backward(); }, "recorded no derivative");
  }
  bool spoiled = false;
  const auto nan = [&](const at::Tensor& x, double) {
    return at::full_like(x.detach(), spoiled ? nan_value : 1.0);
  };
  at::Tensor x_0 = on_device::ones({2}, torch::kDouble).requires_grad_();
  const at::Tensor x = fm::odeint_adjoint(nan, x_0, at_times({0, 1}), {})[1];
  spoiled = true;
  CHECK_THROWS_AS(x.sum().backward(), fm::SolverError);
}
