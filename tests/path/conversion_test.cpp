#include "flowmatch/path/conversion.hpp"

#include "flowmatch/path/affine.hpp"
#include "tests/path/all_schedulers.hpp"

namespace {

struct Point {
  at::Tensor x_0;
  at::Tensor x_1;
  at::Tensor t;
};

Point random_point(const at::Tensor& t) {
  torch::manual_seed(7);
  const std::int64_t n = t.size(0);
  return {on_device::randn({n, 2, 3}, t.options()), on_device::randn({n, 2, 3}, t.options()), t};
}

}  // namespace

TEST_CASE("conversion: velocity and data and noise of one path become each other") {
  const Point p = random_point(on_device::linspace(0.05, 0.95, 10, torch::kDouble));
  for_each_scheduler([&](const auto& scheduler) {
    const fm::PathSample sample = fm::AffinePath(scheduler).sample(p.x_0, p.x_1, p.t);
    const at::Tensor& x_t = sample.x_t;
    const at::Tensor& v = sample.dx_t;
    const fm::Coefficients c = fm::coefficients_at(scheduler, p.t, x_t);
    CHECK(close(fm::velocity_from_x_1(c, x_t, p.x_1), v, 1e-9, 1e-9));
    CHECK(close(fm::velocity_from_epsilon(c, x_t, p.x_0), v, 1e-9, 1e-9));
    CHECK(close(fm::x_1_from_velocity(c, x_t, v), p.x_1, 1e-9, 1e-9));
    CHECK(close(fm::epsilon_from_velocity(c, x_t, v), p.x_0, 1e-9, 1e-9));
    CHECK(close(fm::x_1_from_epsilon(c, x_t, p.x_0), p.x_1, 1e-9, 1e-9));
    CHECK(close(fm::epsilon_from_x_1(c, x_t, p.x_1), p.x_0, 1e-9, 1e-9));
    const at::Tensor sigma = fm::expand_time(scheduler(p.t).sigma_t, x_t);
    CHECK(close(fm::score_from_epsilon(c, p.x_0), -p.x_0 / sigma, 1e-12, 1e-12));
    CHECK(close(fm::score_from_velocity(c, x_t, v), -p.x_0 / sigma, 1e-9, 1e-9));
  });
}

TEST_CASE("conversion: any prediction survives the way there and back") {
  // Unrelated tensors: what a network says need not lie on a path.
  const Point p = random_point(on_device::linspace(0.05, 0.95, 10, torch::kDouble));
  const at::Tensor x_t = torch::randn_like(p.x_0);
  const at::Tensor said = torch::randn_like(p.x_0);
  for_each_scheduler([&](const auto& scheduler) {
    const fm::Coefficients c = fm::coefficients_at(scheduler, p.t, x_t);
    const auto back = [&](const at::Tensor& result) { CHECK(close(result, said, 1e-8, 1e-8)); };
    back(fm::velocity_from_x_1(c, x_t, fm::x_1_from_velocity(c, x_t, said)));
    back(fm::velocity_from_epsilon(c, x_t, fm::epsilon_from_velocity(c, x_t, said)));
    back(fm::x_1_from_velocity(c, x_t, fm::velocity_from_x_1(c, x_t, said)));
    back(fm::x_1_from_epsilon(c, x_t, fm::epsilon_from_x_1(c, x_t, said)));
    back(fm::epsilon_from_velocity(c, x_t, fm::velocity_from_epsilon(c, x_t, said)));
    back(fm::epsilon_from_x_1(c, x_t, fm::x_1_from_epsilon(c, x_t, said)));
    // The long way round meets the short one.
    const at::Tensor x_1 = fm::x_1_from_velocity(c, x_t, said);
    CHECK(close(fm::epsilon_from_x_1(c, x_t, x_1), fm::epsilon_from_velocity(c, x_t, said), 1e-8,
                1e-8));
  });
}

TEST_CASE("conversion: everything is finite at t = 0 and t = 1") {
  for (const auto dtype : {torch::kFloat, torch::kDouble}) {
    const Point p = random_point(on_device::tensor({0.0, 1e-7, 1.0 - 1e-7, 1.0}, dtype));
    const at::Tensor said = torch::randn_like(p.x_0);
    for_each_scheduler([&](const auto& scheduler) {
      const at::Tensor x_t = fm::AffinePath(scheduler).sample(p.x_0, p.x_1, p.t).x_t;
      const fm::Coefficients c = fm::coefficients_at(scheduler, p.t, x_t);
      for (const at::Tensor& result :
           {fm::velocity_from_x_1(c, x_t, said), fm::velocity_from_epsilon(c, x_t, said),
            fm::x_1_from_velocity(c, x_t, said), fm::epsilon_from_velocity(c, x_t, said),
            fm::x_1_from_epsilon(c, x_t, said), fm::epsilon_from_x_1(c, x_t, said),
            fm::score_from_epsilon(c, said), fm::score_from_velocity(c, x_t, said)}) {
        CHECK(result.isfinite().all().template item<bool>());
        CHECK(result.scalar_type() == dtype);
      }
    });
  }
}

TEST_CASE("conversion: where nothing divides by zero the ends are exact") {
  const Point p = random_point(doubles({0, 1}));
  const fm::PathSample sample = fm::LinearPath{}.sample(p.x_0, p.x_1, p.t);
  const fm::Coefficients c = fm::coefficients_at(fm::CondOTScheduler{}, p.t, sample.x_t);
  CHECK(close(fm::x_1_from_velocity(c, sample.x_t, sample.dx_t), p.x_1));
  CHECK(close(fm::epsilon_from_velocity(c, sample.x_t, sample.dx_t), p.x_0));
  CHECK(close(fm::velocity_from_x_1(c, sample.x_t, p.x_1)[0], sample.dx_t[0]));
  CHECK(close(fm::velocity_from_epsilon(c, sample.x_t, p.x_0)[1], sample.dx_t[1]));
}

TEST_CASE("conversion: the score of a Gaussian is that of its density") {
  // x_1 ~ N(mu, s^2) gives x_t ~ N(alpha mu, alpha^2 s^2 + sigma^2), whose score is known.
  const double mu = 1.5;
  const double s = 0.4;
  const at::Tensor t = doubles({0.1, 0.5, 0.9});
  const at::Tensor x = doubles({-0.7, 0.2, 1.1});
  for_each_scheduler([&](const auto& scheduler) {
    const fm::Coefficients c = fm::coefficients_at(scheduler, t, x);
    const at::Tensor variance = (c.alpha_t * s).square() + c.sigma_t.square();
    const at::Tensor away = x - c.alpha_t * mu;
    const at::Tensor x_1 = mu + c.alpha_t * s * s / variance * away;
    const at::Tensor epsilon = c.sigma_t / variance * away;
    const at::Tensor v = c.d_alpha_t * x_1 + c.d_sigma_t * epsilon;
    CHECK(close(fm::score_from_velocity(c, x, v), -away / variance, 1e-9, 1e-9));
  });
}

TEST_CASE("conversion: coefficients get the shape and dtype of x_t") {
  const at::Tensor t = on_device::tensor({0.25F, 0.5F});
  const at::Tensor x = on_device::zeros({2, 1, 4, 4}, torch::kDouble);
  const fm::Coefficients c = fm::coefficients_at(fm::CosineScheduler{}, t, x);
  for (const at::Tensor& value : {c.alpha_t, c.sigma_t, c.d_alpha_t, c.d_sigma_t}) {
    CHECK(value.sizes() == at::IntArrayRef({2, 1, 1, 1}));
    CHECK(value.scalar_type() == torch::kDouble);
  }
  require_error<fm::ShapeError>(
      [&] { fm::coefficients_at(fm::CosineScheduler{}, on_device::zeros({3}), x); },
      "time t has shape [3]");
}

TEST_CASE("conversion: data shows from the first thousandth on at which a twentieth is there") {
  CHECK(fm::detail::data_shows_at(fm::CondOTScheduler{}) == Approx(0.05).margin(1e-9));
  CHECK(fm::detail::data_shows_at(fm::PolynomialScheduler(2)) == Approx(0.224).margin(1e-9));
  const auto at_once = [](const at::Tensor& t) {
    return fm::Coefficients{at::ones_like(t), 1 - t, at::ones_like(t), at::ones_like(t)};
  };
  CHECK(fm::detail::data_shows_at(at_once) == 0);
}

TEST_CASE("conversion: a denominator vanishes below its floor alone") {
  const double floor = fm::denominator_floor(torch::kDouble);
  CHECK(at::equal(fm::detail::vanishes(doubles({0, floor / 2, floor, 1})),
                  on_device::tensor({true, true, false, false})));
}
