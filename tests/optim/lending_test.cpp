#include "flowmatch/optim/lending.hpp"

#include <cstdint>
#include <optional>
#include <utility>

#include "tests/support/test.hpp"

using fm::detail::Average;
using fm::detail::Lendings;
using fm::detail::OwnWeights;

TEST_CASE("lending: the youngest living scope says whose average is in a tensor") {
  const at::NoGradGuard no_grad;
  auto net = on_device::module(torch::nn::Linear(torch::nn::LinearOptions(1, 1).bias(false)));
  net->weight.fill_(1);
  const auto value = [&] { return net->weight.item<double>(); };
  Average two{net->weight, on_device::full({1, 1}, 2.0F)};
  Average three{net->weight, on_device::full({1, 1}, 3.0F)};
  Lendings& table = Lendings::all();
  REQUIRE(!table.lent(net->weight));
  const std::int64_t first = table.begin({{net->weight, &two}});
  REQUIRE(value() == 2);
  REQUIRE(table.lent(net->weight));
  const std::int64_t second = table.begin({{net->weight, &three}});
  REQUIRE(value() == 3);
  REQUIRE(!two.lent.defined());
  std::optional<OwnWeights> own(std::in_place, *net);
  REQUIRE(value() == 1);
  REQUIRE(!table.lent(net->weight));
  net->weight.fill_(4);  // its own, from then on
  table.end(second);
  REQUIRE(value() == 4);
  own.reset();
  REQUIRE(value() == 2);
  table.end(first);
  REQUIRE(value() == 4);
  REQUIRE(!table.lent(net->weight));
  REQUIRE(three.current().item<double>() == 3);
}

TEST_CASE("lending: a scope that cannot begin leaves everything as it was") {
  const at::NoGradGuard no_grad;
  auto net = on_device::module(torch::nn::Linear(1, 1));
  net->weight.fill_(1);
  net->bias.fill_(1);
  Average good{net->weight, on_device::full({1, 1}, 2.0F)};
  Average bad{net->bias, at::Tensor()};
  REQUIRE_THROWS(Lendings::all().begin({{net->weight, &good}, {net->bias, &bad}}));
  REQUIRE(net->weight.item<double>() == 1);
  REQUIRE(net->bias.item<double>() == 1);
  REQUIRE(!good.lent.defined());
  REQUIRE(!Lendings::all().lent(net->weight));
}
