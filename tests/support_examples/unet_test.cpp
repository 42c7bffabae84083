#include "examples/fashion_mnist/unet.hpp"

#include "flowmatch/core/error.hpp"
#include "flowmatch/model/channels_last.hpp"
#include "tests/support/test.hpp"

using fashion_mnist::UNet;
using fashion_mnist::UNetOptions;

namespace {

std::int64_t parameters(UNet& net) {
  std::int64_t count = 0;
  for (const at::Tensor& p : net->parameters()) count += p.numel();
  return count;
}

}  // namespace

TEST_CASE("unet: paper and small have the post's numbers of parameters") {
  UNet paper(UNetOptions::named("paper"));
  UNet small(UNetOptions::named("small"));
  CHECK(parameters(paper) == 13'023'072);
  CHECK(parameters(small) == 2'174'176);
  require_error<fm::OptionError>([] { UNetOptions::named("huge"); }, "choose paper or small");
}

TEST_CASE("unet: channels-last changes nothing and every parameter gets a gradient") {
  torch::manual_seed(0);
  UNet net(UNetOptions::small());
  const at::Tensor x = torch::randn({3, 1, 32, 32});
  const at::Tensor t = torch::rand({3});
  const at::Tensor labels = torch::tensor({0, 4, 9});
  net->eval();
  const at::Tensor before = net->forward(x, t, labels);
  REQUIRE(before.sizes() == x.sizes());
  fm::to_channels_last(*net);
  const at::Tensor after = net->forward(x, t, labels);
  CHECK(close(after, before, 1e-4, 1e-5));
  // Also with one channel, where strides could stand for either layout: LibTorch reads them as the
  // other one, and the slow kernels of mixed layouts follow.
  for (const at::Tensor& p : net->parameters()) {
    if (p.dim() == 4) CHECK(p.suggest_memory_format() == at::MemoryFormat::ChannelsLast);
  }
  // In evaluation mode a sample does not depend on the others.
  const at::Tensor alone = net->forward(x.slice(0, 1, 2), t.slice(0, 1, 2), labels.slice(0, 1, 2));
  CHECK(close(alone[0], after[1], 1e-4, 1e-5));
  net->train();
  net->forward(x, t, labels).square().sum().backward();
  for (const auto& p : net->named_parameters()) {
    INFO(p.key());
    CHECK(p.value().grad().defined());
  }
}
