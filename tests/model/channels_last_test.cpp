#include "flowmatch/model/channels_last.hpp"

#include "tests/support/test.hpp"

TEST_CASE("channels_last: convolution weights change their layout and nothing else") {
  auto net = on_device::module(
      torch::nn::Sequential(torch::nn::Conv2d(1, 4, 3), torch::nn::Conv2d(4, 1, 3),
                            torch::nn::Conv1d(2, 3, 3), torch::nn::Linear(5, 2)));
  std::vector<at::Tensor> before;
  for (const at::Tensor& p : net->parameters()) before.push_back(p.detach().clone());
  const at::Tensor handle = net->parameters()[0];
  fm::to_channels_last(*net);
  const auto after = net->parameters();
  for (std::size_t i = 0; i < after.size(); ++i) {
    REQUIRE(torch::equal(after[i], before[i]));
    REQUIRE(after[i].requires_grad());
    // With one channel the layout shows in the strides alone, and convolutions go by them.
    if (after[i].dim() == 4) {
      REQUIRE(after[i].suggest_memory_format() == at::MemoryFormat::ChannelsLast);
    } else {
      REQUIRE(after[i].is_contiguous());
    }
  }
  REQUIRE(handle.strides() == after[0].strides());  // still the same parameter
}

TEST_CASE("channels_last: weights that are laid out so already keep their memory") {
  auto conv = on_device::module(torch::nn::Conv2d(2, 4, 3));
  fm::to_channels_last(*conv);
  const void* const memory = conv->weight.const_data_ptr();
  fm::to_channels_last(*conv);
  CHECK(conv->weight.const_data_ptr() == memory);
}

TEST_CASE("channels_last: weights that share their memory stay tied") {
  struct SharingImpl : torch::nn::Module {
    SharingImpl() {
      viewed = register_module("viewed", on_device::module(torch::nn::Conv2d(2, 4, 3)));
      kernel = register_buffer("kernel", viewed->weight.detach());
      part = register_parameter("part", viewed->weight.detach()[0]);
      tied = register_module("tied", on_device::module(torch::nn::Conv2d(2, 4, 3)));
      register_module("same", tied);
    }
    torch::nn::Conv2d viewed{nullptr}, tied{nullptr};
    at::Tensor kernel, part;
  } net;
  fm::to_channels_last(net);
  const at::NoGradGuard no_grad;
  net.viewed->weight.fill_(5);
  REQUIRE(torch::equal(net.kernel, on_device::full({4, 2, 3, 3}, 5.0F)));
  REQUIRE(torch::equal(net.part, on_device::full({2, 3, 3}, 5.0F)));
  REQUIRE(net.viewed->weight.is_contiguous());
  // Under two names it is one tensor.
  REQUIRE(net.tied->weight.is_contiguous(at::MemoryFormat::ChannelsLast));
}

TEST_CASE("channels_last: weights that are laid out under InferenceMode can be trained") {
  auto conv = on_device::module(torch::nn::Conv2d(2, 4, 3));
  {
    const c10::InferenceMode inference;
    fm::to_channels_last(*conv);
  }
  REQUIRE(conv->weight.is_contiguous(at::MemoryFormat::ChannelsLast));
  conv->forward(on_device::ones({1, 2, 3, 3})).sum().backward();
  REQUIRE(conv->weight.grad().sum().item<double>() == 72);
}
