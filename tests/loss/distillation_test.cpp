#include "flowmatch/loss/distillation.hpp"

#include "flowmatch/loss/mean_flow.hpp"
#include "flowmatch/noisify/two_times.hpp"
#include "flowmatch/path/affine.hpp"
#include "tests/support/gaussian_flow.hpp"
#include "tests/support/networks.hpp"

namespace {

fm::Noised<at::Tensor> example_of(std::int64_t n) {
  return {on_device::randn({n, 2}), on_device::rand({n}), on_device::randn({n, 2}),
          on_device::arange(n)};
}

/// A velocity that depends on all it is given, and on its mode.
struct ModalImpl : torch::nn::Module {
  ModalImpl() { scale = register_parameter("scale", on_device::tensor({2.0F})); }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t, const at::Tensor& c) {
    const at::Tensor v = scale * x + fm::expand_time(t, x) + fm::expand_time(c.to(x.dtype()), x);
    return is_training() ? 100 * v : v;
  }
  at::Tensor scale;
};
TORCH_MODULE(Modal);

}  // namespace

TEST_CASE("distillation: targets are the teacher's velocities, all else is the example's") {
  Modal teacher;
  const fm::Noised<at::Tensor> noised = example_of(5);
  const fm::Noised<at::Tensor> changed = fm::taught(teacher, noised);
  const at::Tensor v = 2 * noised.x_t + noised.t.unsqueeze(1) + noised.condition.unsqueeze(1);
  CHECK(at::allclose(changed.target, v));
  CHECK_FALSE(changed.target.requires_grad());
  CHECK(at::equal(changed.x_t, noised.x_t));
  CHECK(at::equal(changed.condition, noised.condition));
  CHECK(teacher->is_training());

  // A student that is the teacher has nothing to learn, whatever the example's own target was.
  const fm::DistillationLoss loss(fm::PredictionLoss<>{}, teacher);
  Modal student;
  student->eval();
  CHECK(loss(student, noised).item<double>() == 0);
  {
    const torch::NoGradGuard no_grad;
    student->scale.fill_(3.0F);
  }
  const at::Tensor value = loss(student, noised);
  CHECK(value.item<double>() == Approx(noised.x_t.square().mean().item<double>()));
  value.backward();
  CHECK(student->scale.grad().defined());
  CHECK_FALSE(teacher->scale.grad().defined());
}

TEST_CASE("distillation: a mean flow along a teacher has the teacher's own flow as its minimum") {
  // The derivative goes along the teacher's velocity, so that the average of the Gaussian flow has
  // no error at any pair of times; along the example's own velocity it has.
  auto average = gaussian_flow::average;
  fm::Rng rng(3, test_device());
  const fm::TwoTimeNoisifier noisify(fm::LinearPath{}, 0.25);
  const auto noised = noisify(fm::Batch<>{on_device::randn({64, 2}, at::kDouble)}, rng);
  const fm::MeanFlowLoss plain({.power = 0});
  CHECK(plain(average, noised).item<double>() > 0.1);
  CHECK(fm::DistillationLoss(plain, gaussian_flow::velocity)(average, noised).item<double>() <
        1e-20);
}

TEST_CASE("distillation: a teacher of another shape is refused") {
  const auto teacher = [](const at::Tensor& x, const at::Tensor&, const at::Tensor&) {
    return x.sum(1, true);
  };
  Modal student;
  const fm::DistillationLoss loss(fm::PredictionLoss<>{}, teacher);
  require_error<fm::ShapeError>([&] { loss(student, example_of(4)); }, "the teacher's velocity");
}
