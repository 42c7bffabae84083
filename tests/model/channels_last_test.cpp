#include "flowmatch/model/channels_last.hpp"

#include "tests/support/test.hpp"

TEST_CASE("channels_last: convolution weights change their layout and nothing else") {
  torch::nn::Sequential net(torch::nn::Conv2d(1, 4, 3), torch::nn::Conv2d(4, 1, 3),
                            torch::nn::Conv1d(2, 3, 3), torch::nn::Linear(5, 2));
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
  torch::nn::Conv2d conv(2, 4, 3);
  fm::to_channels_last(*conv);
  const void* const memory = conv->weight.const_data_ptr();
  fm::to_channels_last(*conv);
  CHECK(conv->weight.const_data_ptr() == memory);
}
