#include "flowmatch/loss/pseudo_huber.hpp"

#include "tests/support/test.hpp"

TEST_CASE("pseudo_huber: a quadratic for small errors, the norm for large ones") {
  const at::Tensor target = on_device::zeros({2, 4}, torch::kDouble);
  const at::Tensor error =
      torch::stack({doubles({3, 4, 0, 0}) * 1e3, doubles({3, 4, 0, 0}) * 1e-3});
  const double c = 2;
  const at::Tensor expected = ((error.square().sum(1) + c * c).sqrt() - c) / 2;  // sqrt(D) = 2
  CHECK(close(fm::PseudoHuber(c).per_sample(error, target), expected, 1e-9, 1e-15));
  CHECK(close(fm::PseudoHuber(c)(error, target), expected.mean(), 1e-9, 1e-15));
  // By default c = 0.00054 sqrt(D).
  CHECK(close(fm::PseudoHuber()(error, target), fm::PseudoHuber(0.00054 * 2)(error, target)));
  const at::Tensor x = on_device::zeros({2, 4}, torch::kDouble).requires_grad_();
  fm::PseudoHuber()(x, target).backward();  // the root has a slope at no error
  CHECK(at::equal(x.grad(), target));
  require_error<fm::OptionError>([] { fm::PseudoHuber(0); }, "above 0");
  require_error<fm::ShapeError>([&] { fm::PseudoHuber()(error, target[0]); }, "the target");
}
