#include "flowmatch/model/adapters.hpp"

#include <functional>
#include <typeinfo>

#include "flowmatch/model/rescheduled.hpp"
#include "flowmatch/sample/method.hpp"
#include "flowmatch/sample/sampler.hpp"
#include "tests/path/all_schedulers.hpp"
#include "tests/support/networks.hpp"

namespace {

/// x_1 ~ N(mu, s^2), x_0 ~ N(0, 1): what the best networks say is known.
template <class Scheduler>
struct Gaussian {
  Scheduler scheduler;
  double mu = 1.5;
  double s = 0.4;

  struct Answer {
    at::Tensor x_1, epsilon, velocity;
  };
  Answer operator()(const at::Tensor& x, const at::Tensor& t) const {
    const fm::Coefficients c = fm::coefficients_at(scheduler, t, x);
    const at::Tensor slope = (x - c.alpha_t * mu) / ((c.alpha_t * s).square() + c.sigma_t.square());
    const at::Tensor x_1 = mu + c.alpha_t * s * s * slope;
    const at::Tensor epsilon = c.sigma_t * slope;
    return {x_1, epsilon, c.d_alpha_t * x_1 + c.d_sigma_t * epsilon};
  }
};

}  // namespace

TEST_CASE("adapters: networks of data and noise give the velocity of a Gaussian") {
  torch::manual_seed(5);
  // Where alpha is above 0.05 on all of the paths.
  const at::Tensor t = on_device::linspace(0.45, 0.98, 13, torch::kDouble);
  const at::Tensor x = on_device::randn({13, 3}, torch::kDouble);
  for_each_scheduler([&](const auto& scheduler) {
    using S = std::decay_t<decltype(scheduler)>;
    const Gaussian<S> known{scheduler};
    fm::VelocityFromX1 from_x_1(
        [&known](const at::Tensor& y, const at::Tensor& u) { return known(y, u).x_1; }, scheduler);
    fm::VelocityFromEpsilon from_epsilon(
        [&known](const at::Tensor& y, const at::Tensor& u) { return known(y, u).epsilon; },
        scheduler);
    static_assert(fm::VelocityModel<decltype(from_x_1)>);
    static_assert(fm::VelocityModel<decltype(from_epsilon)>);
    const at::Tensor velocity = known(x, t).velocity;
    CHECK(close(fm::call_model(from_x_1, x, t), velocity, 1e-8, 1e-8));
    CHECK(close(fm::call_model(from_epsilon, x, t), velocity, 1e-8, 1e-8));
  });
}

TEST_CASE("adapters: velocities are finite at t = 0 and t = 1") {
  const at::Tensor t = on_device::tensor({0.0F, 1.0F});
  const at::Tensor x = on_device::randn({2, 3});
  const auto network = [](const at::Tensor& y, const at::Tensor&) { return y.cos(); };
  for_each_scheduler([&](const auto& scheduler) {
    fm::VelocityFromX1 from_x_1(network, scheduler);
    fm::VelocityFromEpsilon from_epsilon(network, scheduler);
    CHECK(from_x_1(x, t).isfinite().all().template item<bool>());
    CHECK(from_epsilon(x, t).isfinite().all().template item<bool>());
  });
}

TEST_CASE("adapters: at t = 1 a network of the data is asked a little before") {
  at::Tensor asked;
  fm::VelocityFromX1 model(
      [&](const at::Tensor& y, const at::Tensor& u) {
        asked = u;
        return y;
      },
      fm::CondOTScheduler{});
  model(on_device::zeros({3, 1}), on_device::tensor({0.25F, 0.98F, 1.0F}));
  CHECK(close(asked, on_device::tensor({0.25F, 0.98F, 0.95F}), 0, 1e-6));
}

TEST_CASE(
    "adapters: near t = 0 a network of the noise is asked where there is data, and is right") {
  torch::manual_seed(6);
  const at::Tensor t = on_device::linspace(0, 0.05, 6, torch::kDouble);
  const at::Tensor x = on_device::randn({6, 3}, torch::kDouble);
  for_each_scheduler([&](const auto& scheduler) {
    using S = std::decay_t<decltype(scheduler)>;
    const Gaussian<S> known{scheduler};
    at::Tensor asked;
    double error = 0;
    fm::VelocityFromEpsilon model(
        [&](const at::Tensor& y, const at::Tensor& u) {
          asked = u;
          return known(y, u).epsilon + error;
        },
        scheduler);
    const at::Tensor velocity = model(x, t);
    CHECK((scheduler(asked).alpha_t > 0.0499).all().template item<bool>());
    CHECK(close(velocity, known(x, t).velocity, 0, 0.2));
    error = 0.01;  // at most twenty times as much of the data
    const at::Tensor most = 20 * error * scheduler(t).d_alpha_t.unsqueeze(1) + 0.1;
    CHECK(((model(x, t) - velocity).abs() <= most).all().template item<bool>());
  });
}

TEST_CASE("adapters: a prediction of another shape than x is a ShapeError") {
  const auto narrow = [](const at::Tensor& x, const at::Tensor&) { return x.narrow(1, 0, 1); };
  const at::Tensor x = on_device::zeros({3, 2});
  const at::Tensor t = on_device::full({3}, 0.5);
  const fm::CondOTScheduler straight;
  const std::string text = "the model's output has shape [3, 1]";
  require_error<fm::ShapeError>([&] { fm::VelocityFromX1(narrow, straight)(x, t); }, text);
  require_error<fm::ShapeError>([&] { fm::VelocityFromEpsilon(narrow, straight)(x, t); }, text);
  require_error<fm::ShapeError>([&] { fm::Rescheduled(narrow, straight, straight)(x, t); }, text);
}

TEST_CASE("adapters: a velocity of a path that ends without noise is asked at its end, too") {
  const fm::VPScheduler ending(0, 20);
  const Gaussian<fm::VPScheduler> theirs{ending};
  const Gaussian<fm::CondOTScheduler> ours{{}};
  fm::Rescheduled model(
      [&](const at::Tensor& y, const at::Tensor& s) { return theirs(y, s).velocity; }, ending,
      fm::CondOTScheduler{});
  const at::Tensor x = on_device::linspace(0.5, 2.5, 5, torch::kDouble).unsqueeze(1);
  const at::Tensor t = on_device::ones({5}, torch::kDouble);
  CHECK(close(model(x, t), ours(x, t).velocity, 1e-4, 1e-4));
}

TEST_CASE("adapters: a velocity of one path is that of another at the same signal-to-noise ratio") {
  const at::Tensor x = on_device::randn({9, 3}, torch::kDouble);
  const at::Tensor ratio = on_device::linspace(0.3, 8, 9, torch::kDouble);
  for_each_scheduler([&](const auto& from) {
    for_each_scheduler([&](const auto& to) {
      const Gaussian<std::decay_t<decltype(from)>> theirs{from};
      const Gaussian<std::decay_t<decltype(to)>> ours{to};
      fm::Rescheduled model(
          [&theirs](const at::Tensor& y, const at::Tensor& s) { return theirs(y, s).velocity; },
          from, to);
      static_assert(fm::VelocityModel<decltype(model)>);
      const at::Tensor t = to.snr_inverse(ratio);
      CHECK(close(model(x, t), ours(x, t).velocity, 1e-8, 1e-8));
      CHECK(model(x, torch::ones_like(t)).isfinite().all().template item<bool>());
    });
  });
}

TEST_CASE("adapters: conditions reach the network inside") {
  const auto network = [](const at::Tensor&, const at::Tensor&, const at::Tensor& c) {
    return c.to(torch::kDouble).unsqueeze(1);
  };
  fm::VelocityFromX1 model(network, fm::CondOTScheduler{});
  static_assert(fm::VelocityModel<decltype(model), at::Tensor>);
  static_assert(!fm::VelocityModel<decltype(model)>);
  // v = (x_1 - x) / (1 - t)
  const at::Tensor x = doubles({0, 1}).unsqueeze(1);
  CHECK(close(fm::call_model(model, x, doubles({0, 0.5}), on_device::tensor({3, 5})),
              doubles({3, 8}).unsqueeze(1)));
}

TEST_CASE("adapters: modules are kept by address and holders share") {
  networks::Mlp holder;
  fm::VelocityFromEpsilon shared(holder, fm::CosineScheduler{});
  CHECK(&fm::module_of(shared.model()) == holder.get());
  fm::VelocityFromX1 by_address(*holder, fm::CosineScheduler{});
  static_assert(std::is_same_v<std::decay_t<decltype(by_address.model())>,
                               std::reference_wrapper<networks::MlpImpl>>);
  CHECK(&fm::module_of(by_address.model()) == holder.get());
  const at::Tensor x = on_device::randn({3, 2});
  const at::Tensor t = on_device::full({3}, 0.5);
  const fm::Coefficients c = fm::coefficients_at(fm::CosineScheduler{}, t, x);
  CHECK(at::equal(fm::call_model(by_address, x, t),
                  fm::velocity_from_x_1(c, x, holder->forward(x, t))));
}

TEST_CASE("adapters: times that do not fit are a ShapeError") {
  fm::VelocityFromX1 model([](const at::Tensor& x, const at::Tensor&) { return x; },
                           fm::CondOTScheduler{});
  require_error<fm::ShapeError>(
      [&] {
        model(on_device::zeros({2, 3}), on_device::zeros({3}));
      },
      "time t has shape [3]");
}

namespace {

/// A model whose type says no more than a Sampler asks: one is compiled for all of them.
template <bool singular>
struct AnyModel {
  static constexpr bool singular_at_end = singular;
  std::function<at::Tensor(const at::Tensor&, const at::Tensor&)> model;
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& t) const { return model(x, t); }
};

/// The worst that mean and standard deviation of samples are off.
template <class Model, class Method>
double off(const Model& model, const Method& method, std::int64_t steps) {
  fm::Rng rng(1, test_device());
  const Gaussian<fm::CondOTScheduler> data{{}};
  const AnyModel<fm::singular_at_end<Model>> any{model};
  const at::Tensor x = fm::Sampler(any, method, fm::TimeGrid::uniform(steps))
                           .sample_from(rng.normal({2000, 1}), rng);
  return std::max(std::abs(x.mean().item<double>() - data.mu),
                  std::abs(x.std().item<double>() - data.s));
}

}  // namespace

TEST_CASE("adapters: networks that err a little give the data from t = 0 to 1 by every method") {
  for_each_scheduler([&](const auto& scheduler) {
    using S = std::decay_t<decltype(scheduler)>;
    const Gaussian<S> known{scheduler};
    double error = 0;
    const auto noise = [&](const at::Tensor& x, const at::Tensor& t) {
      return known(x, t).epsilon + error * at::sin(7 * x);
    };
    const auto data = [&](const at::Tensor& x, const at::Tensor& t) {
      return known(x, t).x_1 + error * at::sin(7 * x);
    };
    const fm::CondOTScheduler straight;
    const fm::VelocityFromEpsilon from_noise(noise, scheduler);
    const fm::VelocityFromX1 from_data(data, scheduler);
    // Beside what the method errs by itself in so few steps.
    const auto check = [&](const auto& model, const auto& method) {
      error = 0;
      const double exact = off(model, method, 20);
      error = 0.01;
      CHECK(off(model, method, 20) < exact + 0.15);
    };
    for (const char* name :
         {"euler", "midpoint", "heun2", "heun3", "rk4", "rk4_classic", "explicit_adams",
          "implicit_adams", "bosh3", "tsit5", "dopri5", "dopri8", "dpm_solver_1", "dpm_solver_2"}) {
      fm::with_method(name, [&](auto method) {
        INFO(typeid(S).name() << " " << name);
        check(fm::Rescheduled(from_noise, scheduler, straight), method);
        check(fm::Rescheduled(from_data, scheduler, straight), method);
        if constexpr (fm::ode::Stepper<decltype(method), at::Tensor>) {
          check(from_noise, method);
          check(from_data, method);
        }
      });
    }
  });
}

TEST_CASE("adapters: the straight and the cosine path give the data in 20 steps of any method") {
  const auto check = [](const auto& scheduler) {
    const Gaussian<std::decay_t<decltype(scheduler)>> known{scheduler};
    const auto noise = [&](const at::Tensor& x, const at::Tensor& t) {
      return known(x, t).epsilon + 0.01 * at::sin(7 * x);
    };
    const auto data = [&](const at::Tensor& x, const at::Tensor& t) {
      return known(x, t).x_1 + 0.01 * at::sin(7 * x);
    };
    for (const char* name : {"euler", "heun2", "rk4", "tsit5", "dopri5"}) {
      fm::ode::with_method(name, [&](auto method) {
        INFO(typeid(scheduler).name() << " " << name);
        CHECK(off(fm::VelocityFromEpsilon(noise, scheduler), method, 20) < 0.1);
        CHECK(off(fm::VelocityFromX1(data, scheduler), method, 20) < 0.1);
      });
    }
    fm::Rng rng(1, test_device());
    const fm::AdaptiveOptions loose{.rtol = 1e-2, .atol = 1e-2};
    const at::Tensor x = fm::Sampler(fm::VelocityFromX1(data, scheduler), fm::ode::Dopri5{}, loose)
                             .sample_from(rng.normal({500, 1}));
    CHECK(x.std().template item<double>() == Approx(known.s).margin(0.05));
  };
  check(fm::CondOTScheduler{});
  check(fm::CosineScheduler{});
}

namespace {

/// The standard deviation of samples from N(2, 0.3^2), by a network that errs a little; in the
/// start's precision.
template <class Model, class Method>
double spread(const Model& model, const Method& method, const fm::TimeGrid& grid,
              at::ScalarType dtype) {
  fm::Rng rng(3, test_device());
  const AnyModel<fm::singular_at_end<Model>> any{model};
  return fm::Sampler(any, method, grid)
      .sample_from(rng.normal({4000, 1}, dtype), rng)
      .std()
      .template item<double>();
}

}  // namespace

TEST_CASE("adapters: errors do not grow on steep paths, and on grids that stop beside the ends") {
  const auto check = [](const auto& scheduler) {
    const Gaussian<std::decay_t<decltype(scheduler)>> known{scheduler, 2, 0.3};
    const auto err = [](const at::Tensor& x) { return 0.02 * at::sin(3 * x); };
    const fm::VelocityFromEpsilon noise(
        [&](const at::Tensor& x, const at::Tensor& t) { return known(x, t).epsilon + err(x); },
        scheduler);
    const fm::VelocityFromX1 data(
        [&](const at::Tensor& x, const at::Tensor& t) { return known(x, t).x_1 + err(x); },
        scheduler);
    const fm::CondOTScheduler straight;
    for (const auto dtype : {torch::kFloat, torch::kDouble}) {
      for (const fm::TimeGrid& grid :
           {fm::TimeGrid::uniform(20), fm::TimeGrid::shifted(20, 3),
            fm::TimeGrid::uniform(20, 0, 0.999), fm::TimeGrid::uniform(20, 1e-5, 1 - 1e-5),
            fm::TimeGrid::uniform(20, 4e-4, 1)}) {
        INFO(typeid(scheduler).name() << " from " << grid.t0() << " to " << grid.t1());
        const auto right = [&](const auto& model, const auto& method) {
          CHECK(std::abs(spread(model, method, grid, dtype) - 0.3) < 0.08);
        };
        const fm::Rescheduled from_noise(noise, scheduler, straight);
        const fm::Rescheduled from_data(data, scheduler, straight);
        right(from_noise, fm::ode::Euler{});
        right(from_noise, fm::ode::Heun2{});
        right(from_noise, fm::DpmSolver<2>{0});
        right(from_data, fm::ode::Euler{});
        right(from_data, fm::ode::Heun2{});
      }
    }
  };
  check(fm::CondOTScheduler{});
  check(fm::CosineScheduler{});
  check(fm::VPScheduler());
  check(fm::VPScheduler(0.1, 40));
  check(fm::PolynomialScheduler(3));
}
