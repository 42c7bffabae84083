#include "flowmatch/coupling/optimal_transport.hpp"

#include <tuple>

#include "flowmatch/coupling/condition_aware.hpp"
#include "tests/coupling/pot/plans.hpp"

namespace {

at::Tensor sorted_rows(const at::Tensor& x) { return std::get<0>(x.flatten(1).sum(1).sort()); }

}  // namespace

TEST_CASE("optimal_transport: costs and their least total are POT's and scipy's") {
  const at::Tensor x_0 = of_pot("x_0"), x_1 = of_pot("x_1");
  const at::Tensor cost = fm::SquaredDistance{}(x_0, x_1);
  CHECK(close(cost, of_pot("cost"), 1e-12, 1e-12));
  const at::Tensor column = fm::optimal_assignment(cost);
  CHECK(at::equal(std::get<0>(column.sort()), on_device::arange(24)));
  CHECK(close(cost.gather(1, column.unsqueeze(1)).mean(0), of_pot("least"), 1e-12, 1e-12));
  const fm::OptimalTransportCoupling<> coupling;
  const at::Tensor paired = x_0.index_select(0, coupling.assignment(x_0, x_1));
  CHECK(close((paired - x_1).square().sum(1).mean().unsqueeze(0), of_pot("least"), 1e-12, 1e-12));
}

TEST_CASE("optimal_transport: each x_0 serves once, data and conditions keep their order") {
  fm::Rng rng(1, test_device()), same(1, test_device());
  const fm::Batch<at::Tensor> batch{on_device::randn({64, 1, 2, 2}) + 3, on_device::arange(64)};
  const auto pair = fm::OptimalTransportCoupling<>{}(batch, rng);
  CHECK(pair.x_1.is_same(batch.x_1));
  CHECK(pair.condition.is_same(batch.condition));
  const at::Tensor x_0 = fm::GaussianSource{}(batch, same);
  CHECK(close(sorted_rows(pair.x_0), sorted_rows(x_0), 0, 0));
  const auto cost = [&](const at::Tensor& x) {
    return (x - batch.x_1).square().sum().item<double>();
  };
  CHECK(cost(pair.x_0) < 0.95 * cost(x_0));
}

TEST_CASE("optimal_transport: small distances far from the origin are not lost") {
  // Points on a line, where the order is the answer; the product of matrices of numbers near 1e4
  // would leave nothing of distances of 1e-2 in float32.
  const at::Tensor x_1 = on_device::arange(50) * 0.01 + 1e4;
  const at::Tensor x_0 = on_device::arange(50).flip(0) * 0.01 + 1e4;
  const at::Tensor index = fm::OptimalTransportCoupling<>{}.assignment(x_0, x_1);
  CHECK(at::equal(x_0.index_select(0, index), x_1));
}

TEST_CASE("optimal_transport: any source and any cost serve") {
  fm::Rng rng(0, test_device());
  const fm::Batch<at::Tensor> batch{on_device::tensor({{0.0F}, {1.0F}}), on_device::tensor({1, 0}),
                                    on_device::tensor({{0.1F}, {0.9F}})};
  const fm::OptimalTransportCoupling paired(fm::PairedSource{});
  CHECK(at::equal(paired(batch, rng).x_0, batch.x_0));
  const auto farthest = [](const at::Tensor& a, const at::Tensor& b) { return -at::cdist(a, b); };
  const fm::OptimalTransportCoupling apart(fm::PairedSource{}, farthest);
  CHECK(at::equal(apart(batch, rng).x_0, batch.x_0.flip(0)));
  const auto with_condition = [](const at::Tensor&, const at::Tensor&, const at::Tensor& c) {
    return at::cdist(c.unsqueeze(1).to(at::kFloat), on_device::tensor({{0.0F}, {1.0F}}));
  };
  const fm::OptimalTransportCoupling by_label(fm::PairedSource{}, with_condition);
  CHECK(at::equal(by_label(batch, rng).x_0, batch.x_0.flip(0)));
  const fm::OptimalTransportCoupling gaussian(farthest);
  static_assert(std::is_same_v<decltype(gaussian)::source_type, fm::GaussianSource>);
  CHECK(gaussian(batch, rng).x_0.size(0) == 2);
  // Complex data, half precision, no samples.
  const fm::Batch<> waves{on_device::randn({8, 2}, torch::kComplexFloat)};
  CHECK(fm::OptimalTransportCoupling<>{}(waves, rng).x_0.is_complex());
  const fm::Batch<> half{on_device::randn({8, 2}).to(torch::kBFloat16)};
  CHECK(fm::OptimalTransportCoupling<>{}(half, rng).x_0.scalar_type() == torch::kBFloat16);
  CHECK(fm::OptimalTransportCoupling<>{}(fm::Batch<>{on_device::zeros({0, 2})}, rng).x_0.size(0) ==
        0);
}

TEST_CASE("optimal_transport: what cannot be is refused") {
  require_error<fm::ShapeError>([] { fm::optimal_assignment(on_device::zeros({3})); }, "[3]");
  require_error<fm::ShapeError>(
      [] {
        fm::optimal_assignment(on_device::zeros({3, 2}));
      },
      "at least as many columns");
  require_error<fm::ShapeError>(
      [] {
        fm::optimal_assignment(on_device::zeros({2, 2}, at::kLong));
      },
      "floating");
  require_error<fm::DataError>(
      [] {
        fm::optimal_assignment(on_device::tensor({{0.0F, NAN}, {1.0F, 2.0F}}));
      },
      "nan");
  fm::Rng rng(0, test_device());
  const auto flat = [](const at::Tensor& a, const at::Tensor&) { return a.sum(); };
  const fm::OptimalTransportCoupling wrong(flat);
  require_error<fm::ShapeError>(
      [&] {
        wrong(fm::Batch<>{on_device::zeros({2, 2})}, rng);
      },
      "[N, M]");
  require_error<fm::ShapeError>(
      [] {
        fm::OptimalTransportCoupling<>{}.assignment(on_device::zeros({2, 2}),
                                                    on_device::zeros({3, 2}));
      },
      "must be the same");
  const fm::OptimalTransportCoupling<> coupling;
  require_error<fm::DataError>(
      [&] {
        coupling(fm::Batch<>{on_device::full({2, 2}, INFINITY)}, rng);
      },
      "finite costs");
}
