#include "flowmatch/coupling/condition_aware.hpp"

#include <limits>
#include <tuple>

#include "flowmatch/coupling/optimal_transport.hpp"
#include "tests/support/test.hpp"

namespace {

/// Which condition each x_1's x_0 was drawn for.
template <class C>
at::Tensor drawn_for(const fm::ConditionAware<>& cost, const at::Tensor& x_0, const at::Tensor& x_1,
                     const C& condition) {
  return fm::OptimalTransportCoupling(cost).assignment(x_0, x_1, condition);
}

}  // namespace

TEST_CASE("condition_aware: pairs across classes are not made, and within one they are the best") {
  torch::manual_seed(1);
  for (const double scale : {1e-3, 1.0, 1e3}) {
    const at::Tensor x_0 = on_device::randn({60, 3}) * scale,
                     x_1 = on_device::randn({60, 3}) * scale;
    const at::Tensor label = on_device::randint(4, {60});
    const at::Tensor index = drawn_for(fm::ConditionAware(), x_0, x_1, label);
    CHECK(at::equal(label.index_select(0, index), label));
    const at::Tensor costs = fm::SquaredDistance{}(x_0, x_1);
    for (int k = 0; k < 4; ++k) {
      const at::Tensor of = label.eq(k).nonzero().squeeze(1);
      const at::Tensor block = costs.index_select(0, of).index_select(1, of);
      const at::Tensor best = fm::optimal_assignment(block);
      const double least = block.gather(1, best.unsqueeze(1)).sum().item<double>();
      const double ours = costs.index_select(1, of)
                              .gather(0, index.index_select(0, of).unsqueeze(0))
                              .sum()
                              .item<double>();
      CHECK(ours == Approx(least).epsilon(1e-5));
    }
  }
}

TEST_CASE("condition_aware: the weight keeps the share of pairs that is asked for") {
  torch::manual_seed(2);
  const at::Tensor x_0 = on_device::randn({100, 2}), x_1 = on_device::randn({100, 2});
  const at::Tensor c = on_device::rand({100, 1});
  const at::Tensor costs = fm::SquaredDistance{}(x_0, x_1);
  const at::Tensor distance = fm::SquaredDistance{}(c, c);
  double before = std::numeric_limits<double>::infinity();
  for (const double share : {0.02, 0.05, 0.2}) {
    const at::Tensor w = fm::ConditionAware(share).weight(costs, distance);
    const at::Tensor all = costs + w * (1 - 1e-5) * distance;
    const double kept = (all <= costs.diagonal().unsqueeze(1)).to(at::kFloat).mean().item<double>();
    CHECK(kept == Approx(share).margin(3e-4));
    CHECK(w.item<double>() < before);
    before = w.item<double>();
  }
  // All pairs may be cheaper: plain optimal transport.
  CHECK(fm::ConditionAware(1).weight(costs, distance).item<double>() == 0);
  CHECK(at::equal(drawn_for(fm::ConditionAware(1), x_0, x_1, c),
                  fm::OptimalTransportCoupling().assignment(x_0, x_1)));
  // More equal conditions than the share: nothing is infinite.
  const at::Tensor equal = on_device::zeros({100, 100});
  CHECK(fm::ConditionAware(0.05).weight(costs, equal).item<double>() == 0);
}

TEST_CASE("condition_aware: the unit of a condition does not matter") {
  torch::manual_seed(3);
  const at::Tensor x_0 = on_device::randn({80, 2}), x_1 = on_device::randn({80, 2});
  const at::Tensor c = on_device::rand({80, 1}), d = on_device::rand({80, 1});
  using Two = std::tuple<at::Tensor, at::Tensor>;
  const fm::ConditionAware aware;
  CHECK(at::equal(drawn_for(aware, x_0, x_1, c), drawn_for(aware, x_0, x_1, 1024 * c)));
  CHECK(at::equal(drawn_for(aware, x_0, x_1, Two{c, d}),
                  drawn_for(aware, x_0, x_1, Two{c, 1024 * d})));
  // Nearer than plain optimal transport brings them.
  const auto apart = [&](const at::Tensor& index) {
    return (c.index_select(0, index) - c).abs().mean().item<double>();
  };
  CHECK(apart(drawn_for(aware, x_0, x_1, c)) <
        0.5 * apart(fm::OptimalTransportCoupling<>{}.assignment(x_0, x_1)));
}

TEST_CASE("condition_aware: several conditions at once, discrete and continuous") {
  torch::manual_seed(4);
  const at::Tensor x_0 = on_device::randn({60, 2}), x_1 = on_device::randn({60, 2});
  const at::Tensor label = on_device::randint(3, {60}), c = on_device::rand({60});
  const std::tuple<at::Tensor, at::Tensor, fm::NoCondition> both{label, c, {}};
  const at::Tensor index = drawn_for(fm::ConditionAware(), x_0, x_1, both);
  CHECK(at::equal(label.index_select(0, index), label));
  CHECK((c.index_select(0, index) - c).abs().mean().item<double>() < 0.2);
  // Classes of several numbers; none.
  const at::Tensor two = torch::stack({label, label.flip(0)}, 1);
  const at::Tensor pairs = drawn_for(fm::ConditionAware(), x_0, x_1, two);
  CHECK(at::equal(two.index_select(0, pairs), two));
  CHECK(at::equal(drawn_for(fm::ConditionAware(), x_0, x_1, fm::NoCondition{}),
                  fm::OptimalTransportCoupling<>{}.assignment(x_0, x_1)));
}

TEST_CASE("condition_aware: what cannot be is refused") {
  for (const double share : {0.0, -1.0, 1.1, std::numeric_limits<double>::quiet_NaN()})
    require_error<fm::OptionError>([&] { fm::ConditionAware{share}; }, "share of pairs");
  const at::Tensor x = on_device::zeros({3, 2});
  require_error<fm::ShapeError>([&] { fm::ConditionAware()(x, x, on_device::arange(2)); },
                                "2 entries for 3 samples");
}
