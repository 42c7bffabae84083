#include "flowmatch/checkpoint/finite.hpp"

#include <string>

#include "tests/support/test.hpp"

namespace {

/// A causal mask, running statistics and a weight.
struct MaskedImpl : torch::nn::Module {
  MaskedImpl() {
    weight = register_parameter("weight", on_device::ones({2}));
    mask = register_buffer("mask", on_device::full({2, 2}, -infinity).triu(1));
    mean = register_buffer("mean", on_device::zeros({2}));
  }
  torch::Tensor weight, mask, mean;
};

}  // namespace

TEST_CASE("finite: a buffer may hold infinity where it did from the beginning and nowhere else") {
  MaskedImpl module;
  const fm::NonfiniteBuffers known(module);
  const auto check = [&] { fm::check_finite(module, 5, known); };
  REQUIRE_NOTHROW(check());
  require_error<fm::TrainingError>([&] { fm::check_finite(module, 5); }, "after 5 steps");
  const at::NoGradGuard no_grad;
  for (const double bad : {infinity, -infinity, nan_value}) {
    for (const at::Tensor& element : {module.weight[1], module.mean[0], module.mask[1][0]}) {
      const at::Tensor before = element.clone();
      element.fill_(bad);
      require_error<fm::TrainingError>(check, "NaN or infinity");
      element.copy_(before);
    }
  }
  module.mask[0][1].fill_(0);  // what was infinite may become finite
  REQUIRE_NOTHROW(check());
}

TEST_CASE("finite: a module's tensors may lie on several devices") {
  torch::nn::Module module;
  module.register_parameter("weight", on_device::ones({2}));
  at::Tensor table = module.register_buffer("table", torch::zeros({3}));
  REQUIRE_NOTHROW(fm::check_finite(module, 1));
  table[1] = nan_value;
  require_error<fm::TrainingError>([&] { fm::check_finite(module, 1); }, "NaN");
}

TEST_CASE("finite: every dtype and shape that a module can register passes") {
  torch::nn::Module module;
  for (const auto dtype : {at::kByte, at::kLong, at::kBool, at::kHalf, at::kBFloat16, at::kFloat,
                           at::kDouble, at::kComplexFloat, at::kFloat8_e4m3fn, at::kFloat8_e5m2}) {
    const std::string name(toString(dtype));
    module.register_parameter(name, on_device::ones({2}).to(dtype), /*requires_grad=*/false);
    module.register_buffer(name + " buffer", on_device::ones({2, 3}).to(dtype));
    module.register_buffer(name + " empty", on_device::empty({0, 3}, dtype));
    module.register_buffer(name + " scalar", on_device::ones({}).to(dtype));
    module.register_buffer(name + " expanded", on_device::ones({1}).to(dtype).expand({4}));
  }
  module.register_buffer("undefined", at::Tensor());
  const fm::NonfiniteBuffers known(module);
  REQUIRE_NOTHROW(fm::check_finite(module, 1, known));
  REQUIRE_NOTHROW(fm::check_finite(torch::nn::Module(), 1));
  for (const auto dtype : {at::kHalf, at::kComplexFloat, at::kFloat8_e5m2}) {
    at::Tensor buffer = module.named_buffers()[std::string(toString(dtype)) + " buffer"];
    const at::Tensor before = buffer.clone();
    buffer.copy_(on_device::full({2, 3}, nan_value).to(dtype));
    require_error<fm::TrainingError>([&] { fm::check_finite(module, 1, known); }, "NaN");
    buffer.copy_(before);
  }
}

TEST_CASE("finite: a frozen parameter may hold infinity where it did and a trained one may not") {
  torch::nn::Module module;
  at::Tensor mask = module.register_parameter("mask", on_device::full({2, 2}, -infinity).triu(1),
                                              /*requires_grad=*/false);
  module.register_parameter("weight", on_device::ones({2}));
  const fm::NonfiniteBuffers known(module);
  const auto check = [&] { fm::check_finite(module, 5, known); };
  REQUIRE_NOTHROW(check());
  mask[1][0].fill_(-infinity);
  require_error<fm::TrainingError>(check, "before the trainer is made");
  mask[1][0].fill_(0);
  mask.set_requires_grad(true);
  require_error<fm::TrainingError>(check, "after 5 steps");
}
