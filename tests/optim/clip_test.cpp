#include "flowmatch/optim/clip.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/test.hpp"

namespace {

/// Parameters whose gradients have the norms 3 and 4; the third has none.
std::vector<at::Tensor> with_gradients(at::ScalarType type = torch::kDouble) {
  const auto options = torch::TensorOptions(type);
  std::vector<at::Tensor> parameters{on_device::zeros({9}, options).requires_grad_(),
                                     on_device::zeros({2, 2}, options).requires_grad_(),
                                     on_device::zeros({5}, options).requires_grad_()};
  parameters[0].mutable_grad() = on_device::ones({9}, options);
  parameters[1].mutable_grad() = on_device::full({2, 2}, -2.0, options);
  return parameters;
}

}  // namespace

TEST_CASE("clip: scales all gradients together and returns their norm before") {
  auto parameters = with_gradients();
  const at::Tensor norm = fm::clip_grad_norm(parameters, 1.0);
  REQUIRE(norm.dim() == 0);
  REQUIRE(norm.item<double>() == Approx(5.0).epsilon(1e-14));
  REQUIRE(close(parameters[0].grad(), on_device::full({9}, 1 / 5.000001, torch::kDouble), 1e-12));
  REQUIRE(
      close(parameters[1].grad(), on_device::full({2, 2}, -2 / 5.000001, torch::kDouble), 1e-12));
  REQUIRE(!parameters[2].grad().defined());
}

TEST_CASE("clip: grad_norm measures and changes nothing") {
  auto parameters = with_gradients();
  REQUIRE(fm::grad_norm(parameters).item<double>() == Approx(5.0).epsilon(1e-14));
  REQUIRE(torch::equal(parameters[0].grad(), on_device::ones({9}, torch::kDouble)));
  REQUIRE(!fm::grad_norm({}).defined());
  parameters[1].grad()[0][1] = std::numeric_limits<double>::infinity();
  REQUIRE(std::isinf(fm::grad_norm(parameters).item<double>()));
  parameters[1].grad()[0][1] = std::numeric_limits<double>::quiet_NaN();
  REQUIRE(std::isnan(fm::grad_norm(parameters).item<double>()));
}

TEST_CASE("clip: the norm of a sparse gradient sums entries of the same place", "[sparse]") {
  const at::Tensor weight = on_device::zeros({5, 1}).requires_grad_();
  torch::embedding(weight, on_device::tensor({1, 1, 3}), -1, false, /*sparse=*/true)
      .sum()
      .backward();
  REQUIRE(weight.grad().is_sparse());
  REQUIRE(fm::grad_norm({weight}).item<double>() == Approx(std::sqrt(5.0)));
}

TEST_CASE("clip: leaves gradients below the maximum exactly as they are") {
  auto parameters = with_gradients();
  fm::clip_grad_norm(parameters, 5.1);
  REQUIRE(torch::equal(parameters[0].grad(), on_device::ones({9}, torch::kDouble)));
  REQUIRE(torch::equal(parameters[1].grad(), on_device::full({2, 2}, -2.0, torch::kDouble)));
}

TEST_CASE("clip: does what torch::nn::utils::clip_grad_norm_ does") {
  for (const auto type : {torch::kDouble, torch::kFloat}) {
    for (const double max_norm : {1e-3, 0.7, 2.5, 5.0, 100.0}) {
      auto mine = with_gradients(type);
      auto theirs = with_gradients(type);
      const double expected = torch::nn::utils::clip_grad_norm_(theirs, max_norm);
      const at::Tensor norm = fm::clip_grad_norm(mine, max_norm);
      const double rtol = type == torch::kDouble ? 1e-12 : 1e-6;
      REQUIRE(norm.item<double>() == Approx(expected).epsilon(rtol));
      for (std::size_t i = 0; i < 2; ++i)
        REQUIRE(close(mine[i].grad(), theirs[i].grad(), rtol, 1e-12));
    }
  }
}

TEST_CASE("clip: without any gradient it returns an undefined tensor") {
  REQUIRE(!fm::clip_grad_norm({on_device::zeros({3}).requires_grad_()}, 1.0).defined());
  REQUIRE(!fm::clip_grad_norm({}, 1.0).defined());
}

TEST_CASE("clip: a gradient of zeros stays zero and one of NaN shows in the norm") {
  std::vector<at::Tensor> parameters{on_device::zeros({3}).requires_grad_()};
  parameters[0].mutable_grad() = on_device::zeros({3});
  REQUIRE(fm::clip_grad_norm(parameters, 1.0).item<double>() == 0.0);
  REQUIRE(torch::equal(parameters[0].grad(), on_device::zeros({3})));
  parameters[0].mutable_grad()[1] = std::numeric_limits<float>::quiet_NaN();
  REQUIRE(std::isnan(fm::clip_grad_norm(parameters, 1.0).item<double>()));
}

TEST_CASE("clip: gradients of every kind have one norm and are scaled together", "[sparse]") {
  const auto with = [](const at::Tensor& grad) {
    at::Tensor p = on_device::zeros(grad.sizes(), grad.options()).requires_grad_();
    p.mutable_grad() = grad;
    return p;
  };
  const at::Tensor embedding = on_device::zeros({5, 1}).requires_grad_();
  torch::embedding(embedding, on_device::tensor({1, 1, 3}), -1, false, /*sparse=*/true)
      .sum()
      .backward();
  const std::vector<at::Tensor> parameters{
      with(on_device::full({2}, c10::complex<double>(3, 4), torch::kComplexFloat)),  // 2 * 25
      with(on_device::full({4}, 4e4, torch::kHalf)),                                 // 4 * 16e8
      with(on_device::full({4}, 2, torch::kBFloat16)),                               // 4 * 4
      with(on_device::full({1}, 5, torch::kDouble)),                                 // 25
      with(on_device::full({}, 3, torch::kFloat)),                                   // 9
      with(on_device::ones({1}).expand({4})),                                        // 4
      with(on_device::empty({0, 3})),
      embedding,  // 4 + 1
  };
  const double expected = std::sqrt(50 + 4 * 4e4 * 4e4 + 16 + 25 + 9 + 4 + 5);
  const at::Tensor norm = fm::grad_norm(parameters);
  REQUIRE(norm.scalar_type() == torch::kDouble);
  REQUIRE(norm.item<double>() == Approx(expected).epsilon(1e-3));  // 4e4 is 39,996 in float16
  const double exact = norm.item<double>();
  REQUIRE(fm::clip_grad_norm(parameters, exact / 2).item<double>() == exact);
  REQUIRE(at::view_as_real(parameters[0].grad())[0][1].item<double>() == Approx(2));
  REQUIRE(parameters[1].grad()[0].item<double>() == Approx(2e4).epsilon(1e-3));
  REQUIRE(parameters[3].grad()[0].item<double>() == Approx(2.5));
  REQUIRE(parameters[4].grad().item<double>() == Approx(1.5));
  REQUIRE(close(parameters[5].grad(), on_device::full({4}, 0.5F), 1e-6, 0));
  REQUIRE(embedding.grad().to_dense()[1].item<double>() == Approx(1));
  REQUIRE(fm::grad_norm(parameters).item<double>() == Approx(exact / 2).epsilon(1e-6));
}

TEST_CASE("clip: gradients without elements have no norm") {
  at::Tensor p = on_device::empty({0}).requires_grad_();
  p.mutable_grad() = on_device::empty({0});
  REQUIRE(!fm::grad_norm({p}).defined());
  REQUIRE(!fm::clip_grad_norm({p}, 1).defined());
}

TEST_CASE("clip: gradients that autograd has conjugated or negated lazily are clipped") {
  const at::Tensor conjugated =
      on_device::full({2}, c10::complex<double>(3, 4), torch::kComplexDouble).requires_grad_();
  const at::Tensor negated = on_device::ones({2}, torch::kDouble).requires_grad_();
  const auto gradients = [&] {
    at::Tensor(conjugated).mutable_grad() =
        on_device::full({2}, c10::complex<double>(3, 4), torch::kComplexDouble).conj();
    at::Tensor(negated).mutable_grad() = at::_neg_view(on_device::full({2}, 5.0, torch::kDouble));
  };
  gradients();
  REQUIRE(conjugated.grad().is_conj());
  REQUIRE(negated.grad().is_neg());
  REQUIRE(fm::grad_norm({conjugated, negated}).item<double>() == Approx(10));
  gradients();
  REQUIRE(fm::clip_grad_norm({conjugated, negated}, 5).item<double>() == Approx(10));
  REQUIRE(at::view_as_real(conjugated.grad())[1][0].item<double>() == Approx(1.5));
  REQUIRE(at::view_as_real(conjugated.grad())[1][1].item<double>() == Approx(-2));
  REQUIRE(negated.grad()[0].item<double>() == Approx(-2.5));
}
