#include "flowmatch/coupling/partial_transport.hpp"

#include <functional>
#include <limits>

#include "flowmatch/coupling/condition_aware.hpp"
#include "flowmatch/coupling/coupled_batches.hpp"
#include "flowmatch/data/tensor_batches.hpp"
#include "tests/coupling/pot/plans.hpp"

TEST_CASE("partial_transport: pairs are those of POT's plan") {
  const at::Tensor cost = of_pot("cost");
  for (const std::int64_t pairs : {1, 6, 12, 23, 24}) {
    INFO(pairs);
    const at::Tensor column = fm::partial_assignment(cost, pairs);
    const at::Tensor row = column.ge(0).nonzero().flatten();
    REQUIRE(row.size(0) == pairs);
    const at::Tensor plan = at::zeros_like(cost).index_put_(
        {row, column.index_select(0, row)}, on_device::full({pairs}, 1.0 / 24, torch::kDouble));
    CHECK(close(plan, of_pot("partial/" + std::to_string(pairs)), 1e-12, 1e-12));
  }
  CHECK(at::equal(fm::partial_assignment(cost, 24), fm::optimal_assignment(cost)));
}

TEST_CASE("partial_transport: of sizes that differ, some of each are left out") {
  // Points on a line: the two nearest pairs.
  const at::Tensor x_0 = doubles({0, 5, 9}).unsqueeze(1);
  const at::Tensor x_1 = doubles({5.1, 30, 8.8, 0.5, 40}).unsqueeze(1);
  const at::Tensor cost = fm::SquaredDistance{}(x_0, x_1);
  CHECK(at::equal(fm::partial_assignment(cost, 2), on_device::tensor({-1, 0, 2}, at::kLong)));
  CHECK(at::equal(fm::partial_assignment(cost.t().to(at::kFloat), 2),
                  on_device::tensor({1, -1, 2, -1, -1}, at::kLong)));
}

TEST_CASE("partial_transport: what is kept belongs together and is in order, outliers are not") {
  fm::Rng rng(1, test_device());
  at::Tensor x_1 = on_device::randn({100, 2});
  x_1.slice(0, 20, 30).add_(50);
  const fm::Batch<at::Tensor> batch{x_1, on_device::arange(100)};
  const auto pair = fm::PartialTransportCoupling(0.9)(batch, rng);
  const at::Tensor expected = at::cat({on_device::arange(20), on_device::arange(30, 100)});
  CHECK(at::equal(pair.condition, expected));
  CHECK(at::equal(pair.x_1, x_1.index_select(0, expected)));
  CHECK(pair.x_0.sizes() == pair.x_1.sizes());
}

TEST_CASE("partial_transport: a mass of 1 is optimal transport") {
  fm::Rng rng(2, test_device()), same(2, test_device());
  const fm::Batch<at::Tensor> batch{on_device::randn({64, 1, 2, 2}), on_device::arange(64)};
  const auto all = fm::PartialTransportCoupling(1)(batch, rng);
  const auto exact = fm::OptimalTransportCoupling<>{}(batch, same);
  CHECK(at::equal(all.x_0, exact.x_0));
  CHECK(at::equal(all.x_1, exact.x_1));
  CHECK(at::equal(all.condition, exact.condition));
}

TEST_CASE("partial_transport: the share is of whole pairs, at least one") {
  CHECK(fm::PartialTransportCoupling(0.3).pairs(10) == 3);
  CHECK(fm::PartialTransportCoupling(0.99).pairs(10) == 10);
  CHECK(fm::PartialTransportCoupling(0.01).pairs(10) == 1);
  CHECK(fm::PartialTransportCoupling(0.5).pairs(0) == 0);
  fm::Rng rng(0, test_device());
  const fm::Batch<at::Tensor> none{on_device::zeros({0, 2}), on_device::arange(0)};
  CHECK(fm::PartialTransportCoupling(0.5)(none, rng).x_0.size(0) == 0);
}

TEST_CASE("partial_transport: any source and any cost serve") {
  fm::Rng rng(0, test_device());
  const fm::Batch<at::Tensor> batch{on_device::tensor({{0.0F}, {1.0F}, {7.0F}}),
                                    on_device::tensor({1, 0, 1}),
                                    on_device::tensor({{0.1F}, {3.0F}, {0.9F}})};
  const fm::PartialTransportCoupling near(2.0 / 3, fm::PairedSource{});
  static_assert(std::is_same_v<decltype(near)::source_type, fm::PairedSource>);
  CHECK(at::equal(near(batch, rng).x_0, on_device::tensor({{0.1F}, {0.9F}})));
  const std::function<at::Tensor(const at::Tensor&, const at::Tensor&)> farthest =
      [](const at::Tensor& a, const at::Tensor& b) { return -at::cdist(a, b); };
  const fm::PartialTransportCoupling apart(1.0 / 3, fm::PairedSource{}, farthest);
  const auto far = apart(batch, rng);
  CHECK(far.x_0.item<float>() == 0.1F);
  CHECK(far.x_1.item<float>() == 7);
  // Within classes alone x_0 = 0.9 goes to no 1.
  const fm::PartialTransportCoupling aware(2.0 / 3, fm::PairedSource{}, fm::ConditionAware{});
  const auto alike = aware(batch, rng);
  CHECK(at::equal(alike.x_0, on_device::tensor({{0.1F}, {3.0F}})));
  CHECK(at::equal(alike.condition, on_device::tensor({1, 0})));
}

TEST_CASE("partial_transport: batches of a pool are smaller by the same share") {
  torch::manual_seed(1);
  const at::Tensor x = on_device::randn({70, 2});
  const auto source = [&] { return fm::TensorBatches(x, on_device::arange(70), 16); };
  fm::CoupledBatches pooled(source(), fm::PartialTransportCoupling(0.5), 5, 3);
  pooled.start_epoch(0);
  std::vector<std::int64_t> sizes;
  while (const auto batch = pooled.next()) {
    sizes.push_back(batch->x_1.size(0));
    CHECK(batch->x_0.sizes() == batch->x_1.sizes());
    CHECK(at::equal(x.index_select(0, batch->condition), batch->x_1));
  }
  CHECK(sizes == std::vector<std::int64_t>{8, 8, 8, 8, 3});
  fm::CoupledBatches few(source(), fm::PartialTransportCoupling(0.01), 5, 2);
  few.start_epoch(0);
  require_error<fm::DataError>([&] { few.next(); }, "enough for each");
}

TEST_CASE("partial_transport: what cannot be is refused") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double mass : {0.0, -0.5, 1.5, nan})
    require_error<fm::OptionError>([&] { fm::PartialTransportCoupling{mass}; }, "in (0, 1]");
  require_error<fm::OptionError>(
      [] {
        fm::partial_assignment(on_device::zeros({3, 2}), 3);
      },
      "3 pairs");
  require_error<fm::ShapeError>([] { fm::partial_assignment(on_device::zeros({3}), 1); }, "[3]");
  require_error<fm::DataError>(
      [] {
        fm::partial_assignment(on_device::full({2, 2}, NAN), 1);
      },
      "finite costs");
  fm::Rng rng(0, test_device());
  require_error<fm::DataError>(
      [&] {
        fm::PartialTransportCoupling(0.5)(fm::Batch<>{on_device::full({2, 2}, INFINITY)}, rng);
      },
      "finite costs");
}
