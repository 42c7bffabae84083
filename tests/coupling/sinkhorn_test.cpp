#include "flowmatch/coupling/sinkhorn.hpp"

#include <limits>

#include "tests/coupling/pot/plans.hpp"

TEST_CASE("sinkhorn: plans are POT's") {
  const at::Tensor cost = of_pot("cost");
  for (const char* reg : {"0.1", "0.5", "4.5"}) {
    INFO(reg);
    const fm::SinkhornOptions options{
        .regularisation = std::stod(reg), .tolerance = 1e-12, .max_iterations = 100000};
    CHECK(close(fm::sinkhorn(cost, options), of_pot(std::string("plan/") + reg), 1e-6, 1e-10));
  }
  CHECK(close(fm::sinkhorn(cost, {.regularisation = 0.5, .marginal_weight = 1, .tolerance = 1e-13}),
              of_pot("unbalanced/0.5/1.0"), 1e-6, 1e-10));
  CHECK(close(fm::sinkhorn(cost, {.regularisation = 2, .marginal_weight = 10, .tolerance = 1e-13}),
              of_pot("unbalanced/2.0/10.0"), 1e-6, 1e-10));
}

TEST_CASE("sinkhorn: marginals are kept where exponentials of the costs would vanish") {
  torch::manual_seed(1);
  const at::Tensor cost = on_device::rand({40, 30}) * 1000;
  const at::Tensor plan = fm::sinkhorn(cost, {.regularisation = 2, .tolerance = 1e-3});
  CHECK(plan.isfinite().all().item<bool>());
  CHECK(close(plan.sum(0), on_device::full({30}, 1.0 / 30), 1e-4, 0));
  CHECK((plan.sum(1) - 1.0 / 40).abs().sum().item<double>() < 1e-3);
}

TEST_CASE("sinkhorn: pairs are drawn by the plan") {
  // Two points and two clusters: each x_1 gets the x_0 beside it with the plan's probability.
  const at::Tensor x_1 = on_device::tensor({0.0F, 1.0F}).repeat({2000}).unsqueeze(1);
  const fm::Batch<at::Tensor> batch{x_1, on_device::arange(4000), x_1.flip(0)};
  fm::Rng rng(2, test_device()), same(2, test_device());
  const fm::SinkhornCoupling coupling({.regularisation = 1}, fm::PairedSource{});
  const auto pair = coupling(batch, rng);
  CHECK(pair.x_1.is_same(batch.x_1));
  CHECK(pair.condition.is_same(batch.condition));
  // By symmetry P is proportional to exp(-cost): like pairs have 1 / (1 + exp(-1)).
  CHECK(pair.x_0.eq(pair.x_1).to(at::kFloat).mean().item<double>() ==
        Approx(1 / (1 + std::exp(-1.0))).margin(0.02));
  CHECK(at::equal(coupling(batch, same).x_0, pair.x_0));
}

TEST_CASE("sinkhorn: unbalanced, points that lie far off are left out") {
  fm::Rng rng(3, test_device());
  at::Tensor x_1 = on_device::randn({200, 2});
  x_1[0].fill_(100);
  const fm::Batch<at::Tensor> batch{x_1, on_device::arange(200)};
  const fm::SinkhornCoupling coupling({.regularisation = 0.5, .marginal_weight = 5});
  const auto pair = coupling(batch, rng);
  CHECK(pair.x_1.abs().max().item<double>() < 50);
  CHECK(at::equal(x_1.index_select(0, pair.condition), pair.x_1));
}

TEST_CASE("sinkhorn: what cannot be is refused") {
  const at::Tensor cost = on_device::rand({3, 3});
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto with = [&](fm::SinkhornOptions options) { fm::sinkhorn(cost, options); };
  require_error<fm::OptionError>([&] { with({.regularisation = 0}); }, "regularisation of 0");
  require_error<fm::OptionError>([&] { with({.regularisation = nan}); }, "regularisation of nan");
  require_error<fm::OptionError>([&] { with({.marginal_weight = -1}); }, "marginal_weight of -1");
  require_error<fm::OptionError>([&] { with({.tolerance = 0}); }, "tolerance of 0");
  require_error<fm::OptionError>([&] { with({.max_iterations = 0}); }, "at least 1");
  require_error<fm::OptionError>([] { fm::SinkhornCoupling({.regularisation = -1}); }, "above 0");
  require_error<fm::ShapeError>([] { fm::sinkhorn(on_device::zeros({3})); }, "[3]");
  require_error<fm::ShapeError>([] { fm::sinkhorn(on_device::zeros({0, 3})); }, "[0, 3]");
  require_error<fm::DataError>([] { fm::sinkhorn(on_device::full({2, 2}, NAN)); }, "NaN");
  require_error<fm::DataError>(
      [&] { with({.regularisation = 1e-3, .tolerance = 1e-12, .max_iterations = 3}); },
      "raise max_iterations");
}
