#include "flowmatch/optim/loss_scaler.hpp"

#include <limits>
#include <vector>

#include "tests/support/test.hpp"

namespace {

at::Tensor found(double value) { return on_device::full({}, value, torch::kFloat); }

}  // namespace

TEST_CASE("loss_scaler: scaled and unscaled gradients are the plain ones") {
  const fm::LossScaler scaler(test_device());
  const at::Tensor plain = on_device::tensor({0.3F, -2.0F, 1e-6F}).requires_grad_();
  const at::Tensor scaled = plain.detach().clone().requires_grad_();
  const at::Tensor without = on_device::ones({2}).requires_grad_();
  plain.sin().sum().backward();
  scaler.scale(scaled.sin().sum()).backward();
  REQUIRE(close(scaled.grad(), plain.grad() * 65536, 1e-6, 0));
  REQUIRE(scaler.unscale({scaled, without}).item<float>() == 0);
  REQUIRE(torch::equal(scaled.grad(), plain.grad()));  // a power of two leaves every bit
  REQUIRE(!without.grad().defined());
}

TEST_CASE("loss_scaler: NaN and infinity in any gradient are found") {
  const fm::LossScaler scaler(test_device());
  REQUIRE(scaler.unscale({}).item<float>() == 0);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    at::Tensor first = on_device::ones({3}).requires_grad_();
    at::Tensor second = on_device::ones({4}).requires_grad_();
    first.mutable_grad() = on_device::ones({3});
    second.mutable_grad() = on_device::ones({4});
    second.grad()[2] = bad;
    REQUIRE(scaler.unscale({first, second}).item<float>() == 1);
  }
}

TEST_CASE("loss_scaler: it halves at an overflow and doubles after 2000 good steps in a row") {
  fm::LossScaler scaler(test_device());
  REQUIRE(scaler.value() == 65536);
  for (int i = 0; i < 1999; ++i) scaler.update(found(0));
  REQUIRE(scaler.value() == 65536);
  REQUIRE(scaler.good_steps() == 1999);
  scaler.update(found(1));
  REQUIRE(scaler.value() == 32768);
  REQUIRE(scaler.good_steps() == 0);
  for (int i = 0; i < 2000; ++i) scaler.update(found(0));
  REQUIRE(scaler.value() == 65536);
}

TEST_CASE("loss_scaler: it can be lowered down to 1") {
  fm::LossScaler scaler(test_device());
  for (int i = 0; i < 16; ++i) {
    REQUIRE(scaler.reducible().item<bool>());
    scaler.update(found(1));
  }
  REQUIRE(scaler.value() == 1);
  REQUIRE(!scaler.reducible().item<bool>());
}

TEST_CASE("loss_scaler: it is restored and refuses what no scaler has") {
  fm::LossScaler scaler(test_device());
  scaler.restore(1024, 1999);
  scaler.update(found(0));
  REQUIRE(scaler.value() == 2048);
  require_error<fm::CheckpointError>([&] { scaler.restore(0, 0); }, "a loss scale of 0");
  require_error<fm::CheckpointError>([&] { scaler.restore(2, -1); }, "after -1 good steps");
}

TEST_CASE("loss_scaler: gradients of every kind are unscaled", "[sparse]") {
  const fm::LossScaler scaler(test_device());
  const at::Tensor complex =
      on_device::full({2}, c10::complex<double>(1, 2), torch::kComplexFloat).requires_grad_();
  const at::Tensor doubles = on_device::ones({2}, torch::kDouble).requires_grad_();
  const at::Tensor table = on_device::zeros({5, 1}).requires_grad_();
  at::Tensor expanded = on_device::ones({4}).requires_grad_();
  const std::vector<at::Tensor> all{complex, doubles, table, expanded};
  const auto gradients = [&] {
    for (at::Tensor p : all) p.mutable_grad().reset();
    const at::Tensor rows =
        torch::embedding(table, on_device::tensor({1, 1, 3}), -1, false, /*sparse=*/true);
    scaler.scale(at::view_as_real(complex).sum() + 3 * doubles.sum() + rows.sum()).backward();
    expanded.mutable_grad() = on_device::full({1}, 65536.0F).expand({4});
  };
  gradients();
  REQUIRE(scaler.unscale(all).item<float>() == 0);
  REQUIRE(torch::equal(at::view_as_real(complex.grad()), on_device::ones({2, 2})));
  REQUIRE(torch::equal(doubles.grad(), on_device::full({2}, 3, torch::kDouble)));
  REQUIRE(torch::equal(table.grad().to_dense(),
                       on_device::tensor({0.0F, 2.0F, 0.0F, 1.0F, 0.0F}).view({5, 1})));
  REQUIRE(torch::equal(expanded.grad(), on_device::ones({4})));
  gradients();
  at::view_as_real(complex.grad())[1][1] = infinity;
  REQUIRE(scaler.unscale(all).item<float>() == 1);
}

TEST_CASE("loss_scaler: gradients that autograd has conjugated lazily are unscaled") {
  const fm::LossScaler scaler(test_device());
  at::Tensor weight = on_device::ones({2}, torch::kComplexFloat).requires_grad_();
  weight.mutable_grad() =
      on_device::full({2}, c10::complex<double>(65536, 131072), torch::kComplexFloat).conj();
  REQUIRE(weight.grad().is_conj());
  REQUIRE(scaler.unscale({weight}).item<float>() == 0);
  REQUIRE(torch::equal(at::view_as_real(weight.grad()),
                       on_device::tensor({{1.0F, -2.0F}, {1.0F, -2.0F}})));
}
