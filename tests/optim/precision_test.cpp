#include "flowmatch/optim/precision.hpp"

#include <stdexcept>

#include "tests/support/test.hpp"

namespace {

at::ScalarType product_type() {
  return torch::mm(on_device::ones({2, 2}), on_device::ones({2, 2})).scalar_type();
}

}  // namespace

TEST_CASE("precision: a scope computes products in its type and ends with itself") {
  {
    const fm::AutocastScope scope(fm::Precision::bfloat16, test_device());
    REQUIRE(product_type() == torch::kBFloat16);
    {
      const fm::AutocastScope inner(fm::Precision::float16, test_device());
      REQUIRE(product_type() == torch::kHalf);
      const fm::AutocastScope nothing(fm::Precision::float32, test_device());
      REQUIRE(product_type() == torch::kHalf);
    }
    REQUIRE(product_type() == torch::kBFloat16);
  }
  REQUIRE(product_type() == torch::kFloat);
}

TEST_CASE("precision: a scope ends with an exception too") {
  try {
    const fm::AutocastScope scope(fm::Precision::bfloat16, test_device());
    throw std::runtime_error("on purpose");
  } catch (const std::runtime_error&) {
  }
  REQUIRE(product_type() == torch::kFloat);
}

TEST_CASE("precision: weights that change between two scopes are cast anew") {
  const at::Tensor weight = on_device::ones({2, 2}).requires_grad_();
  const auto product = [&] {
    const fm::AutocastScope scope(fm::Precision::bfloat16, test_device());
    return torch::mm(on_device::ones({2, 2}), weight).sum().item<double>();
  };
  REQUIRE(product() == 8);
  {
    const torch::NoGradGuard no_grad;
    weight.fill_(2);
  }
  REQUIRE(product() == 16);
}

TEST_CASE("precision: each has its name") {
  REQUIRE(fm::precision_text(fm::Precision::float32) == "float32");
  REQUIRE(fm::precision_text(fm::Precision::bfloat16) == "bfloat16");
  REQUIRE(fm::precision_text(fm::Precision::float16) == "float16");
}
