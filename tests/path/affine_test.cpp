#include "flowmatch/path/affine.hpp"

#include "tests/path/all_schedulers.hpp"

namespace {

struct Pair {
  at::Tensor x_0 = on_device::randn({6, 2, 3}, torch::kDouble);
  at::Tensor x_1 = on_device::randn({6, 2, 3}, torch::kDouble);
  at::Tensor t = on_device::linspace(0.05, 0.95, 6, torch::kDouble);
};

/// The same schedule as CondOTScheduler, but another type: it takes the general formula.
struct GeneralCondOT {
  fm::Coefficients operator()(const at::Tensor& t) const { return fm::CondOTScheduler{}(t); }
};

}  // namespace

TEST_CASE("affine: x_t and dx_t follow the formula") {
  torch::manual_seed(0);
  const Pair pair;
  for_each_scheduler([&](const auto& scheduler) {
    const fm::AffinePath path(scheduler);
    const fm::PathSample sample = path.sample(pair.x_0, pair.x_1, pair.t);
    const fm::Coefficients c = scheduler(pair.t);
    for (int i = 0; i < 6; ++i) {
      CHECK(close(sample.x_t[i], c.sigma_t[i] * pair.x_0[i] + c.alpha_t[i] * pair.x_1[i]));
      CHECK(close(sample.dx_t[i], c.d_sigma_t[i] * pair.x_0[i] + c.d_alpha_t[i] * pair.x_1[i]));
    }
    CHECK(sample.x_0.is_same(pair.x_0));
    CHECK(sample.x_1.is_same(pair.x_1));
    CHECK(sample.t.is_same(pair.t));
  });
}

TEST_CASE("affine: dx_t is the time derivative of x_t") {
  torch::manual_seed(1);
  const Pair pair;
  const double h = 1e-5;
  for_each_scheduler([&](const auto& scheduler) {
    const fm::AffinePath path(scheduler);
    const at::Tensor difference = path.sample(pair.x_0, pair.x_1, pair.t + h).x_t -
                                  path.sample(pair.x_0, pair.x_1, pair.t - h).x_t;
    CHECK(close(path.sample(pair.x_0, pair.x_1, pair.t).dx_t, difference / (2 * h), 1e-6, 1e-7));
  });
}

TEST_CASE("affine: the straight path is the same by its shortcut and the general formula") {
  torch::manual_seed(2);
  const Pair pair;
  const at::Tensor t = doubles({0, 0.2, 0.499, 0.5, 0.501, 1});
  const fm::PathSample quick = fm::LinearPath{}.sample(pair.x_0, pair.x_1, t);
  const fm::PathSample general = fm::AffinePath(GeneralCondOT{}).sample(pair.x_0, pair.x_1, t);
  CHECK(close(quick.x_t, general.x_t));
  CHECK(close(quick.dx_t, general.dx_t));
  CHECK(at::equal(quick.dx_t, pair.x_1 - pair.x_0));
}

TEST_CASE("affine: x_t is x_0 at t = 0 and x_1 at t = 1") {
  torch::manual_seed(3);
  const at::Tensor x_0 = on_device::randn({2, 4});
  const at::Tensor x_1 = on_device::randn({2, 4});
  const at::Tensor zero = on_device::zeros({2});
  const at::Tensor one = on_device::ones({2});
  CHECK(at::equal(fm::LinearPath{}.sample(x_0, x_1, zero).x_t, x_0));
  CHECK(at::equal(fm::LinearPath{}.sample(x_0, x_1, one).x_t, x_1));
  CHECK(at::equal(fm::CosinePath{}.sample(x_0, x_1, zero).x_t, x_0));
  CHECK(close(fm::CosinePath{}.sample(x_0, x_1, one).x_t, x_1, 1e-6, 1e-6));
  CHECK(at::equal(fm::VPPath{}.sample(x_0, x_1, one).x_t, x_1));
  CHECK(close(fm::VPPath{}.sample(x_0, x_1, zero).x_t, x_0, 0, 0.05));
  CHECK(at::equal(fm::LinearVPPath{}.sample(x_0, x_1, one).x_t, x_1));
  CHECK(fm::LinearVPPath{}.sample(x_0, x_1, one).dx_t.isfinite().all().item<bool>());
  CHECK(fm::VPPath{}.sample(x_0, x_1, one).dx_t.isfinite().all().item<bool>());
  const fm::PolynomialPath polynomial(fm::PolynomialScheduler(2));
  CHECK(at::equal(polynomial.sample(x_0, x_1, one).x_t, x_1));
}

TEST_CASE("affine: samples keep the dtype of the data whatever the dtype of times") {
  const at::Tensor t = on_device::tensor({0.25F, 0.75F});
  for (const auto dtype : {torch::kFloat, torch::kDouble, torch::kBFloat16}) {
    const at::Tensor x_0 = on_device::zeros({2, 3}, dtype);
    const at::Tensor x_1 = on_device::ones({2, 3}, dtype);
    for (const fm::PathSample& sample :
         {fm::LinearPath{}.sample(x_0, x_1, t), fm::CosinePath{}.sample(x_0, x_1, t)}) {
      CHECK(sample.x_t.scalar_type() == dtype);
      CHECK(sample.dx_t.scalar_type() == dtype);
      CHECK(sample.t.scalar_type() == torch::kFloat);
    }
    CHECK(fm::LinearPath{}.sample(x_0, x_1, t).x_t[1][2].item<float>() == 0.75F);
  }
}

TEST_CASE("affine: shapes that do not fit are a ShapeError") {
  const at::Tensor x = on_device::zeros({3, 2});
  const at::Tensor t = on_device::zeros({3});
  require_error<fm::ShapeError>(
      [&] {
        fm::LinearPath{}.sample(on_device::zeros({3, 1}), x, t);
      },
      "x_0 has shape [3, 1] and x_1 has shape [3, 2]");
  require_error<fm::ShapeError>([&] { fm::CosinePath{}.sample(x, x, on_device::zeros({2})); },
                                "time t has shape [2]");
  require_error<fm::ShapeError>([&] { fm::LinearPath{}.sample(x, x, on_device::tensor(0.5)); },
                                "time t has shape []");
}

TEST_CASE("affine: whole numbers are a ShapeError, and times in half precision are widened") {
  const at::Tensor bytes = on_device::full({2, 1}, 141, torch::kByte);
  const at::Tensor half = on_device::full({2}, 0.5);
  require_error<fm::ShapeError>(
      [&] { fm::CosinePath{}.sample(torch::zeros_like(bytes), bytes, half); }, "integer dtype");
  require_error<fm::ShapeError>(
      [&] { fm::LinearPath{}.sample(torch::zeros_like(bytes), bytes, half); }, "integer dtype");
  require_error<fm::ShapeError>([&] { fm::coefficients_at(fm::CosineScheduler{}, half, bytes); },
                                "integer dtype");
  const at::Tensor small = on_device::ones({2, 1}).to(at::kFloat8_e4m3fn);
  require_error<fm::ShapeError>([&] { fm::LinearPath{}.sample(small, small, half); }, "8 bits");
  const at::Tensor narrow = on_device::full({1}, 0.8F).to(torch::kBFloat16);  // 0.80078125
  const fm::Coefficients c =
      fm::coefficients_at(fm::CosineScheduler{}, narrow, on_device::ones({1, 1}));
  CHECK(c.alpha_t.item<double>() ==
        Approx(std::sin(std::numbers::pi / 2 * 0.80078125)).epsilon(1e-6));
}

TEST_CASE("affine: it is a path and gives its scheduler back") {
  static_assert(fm::ProbPath<fm::LinearPath> && !fm::StochasticPath<fm::LinearPath>);
  static_assert(fm::ProbPath<fm::VPPath> && fm::ProbPath<fm::PolynomialPath>);
  static_assert(std::is_same_v<fm::CosinePath::scheduler_type, fm::CosineScheduler>);
  static_assert(!std::is_default_constructible_v<fm::PolynomialPath>);
  const fm::PolynomialPath path(fm::PolynomialScheduler(3));
  CHECK(path.scheduler()(doubles({0.5})).alpha_t.item<double>() == 0.125);
}
