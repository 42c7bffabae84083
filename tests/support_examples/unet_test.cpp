#include "examples/fashion_mnist/unet.hpp"

#include "flowmatch/core/error.hpp"
#include "flowmatch/loss/mean_flow.hpp"
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

TEST_CASE("unet: an image costs what its products come to") {
  CHECK(UNet(UNetOptions::small())->gflop(32) == Approx(0.2314).epsilon(0.001));
  CHECK(UNet(UNetOptions::paper())->gflop(32) == Approx(1.32).epsilon(0.005));
  // By hand: 3x3 convolutions 1 -> 2 and 2 -> 1, three blocks (down, middle, up twice: the up
  // blocks take 4 channels and have a shortcut), and the time's layers 2 -> 8 -> 8.
  UNet net(UNetOptions{.widths = {2}, .blocks = 1});
  const double pixels = 4 * 4;
  const double blocks = 4 * (8 * 4) + 2 * (2 * 9 * 4) * pixels + 2 * (9 * 8 + 9 * 4 + 8) * pixels;
  const double products = 2 * 9 * 2 * pixels + blocks + 2 * 8 + 8 * 8;
  CHECK(net->gflop(4) == Approx(2e-9 * products));
}

TEST_CASE("unet: shapes that cannot be are refused with a remedy") {
  const auto check = [](UNetOptions shape, std::int64_t size, const char* text) {
    INFO(text);
    require_error<fm::OptionError>([&] { shape.validate(size); }, text);
  };
  UNetOptions::paper().validate(32);
  check(UNetOptions::paper(), 28, "choose multiples of 8, or fewer widths");
  check({.widths = {}}, 28, "1 to 10 widths");
  check({.widths = {15}}, 28, "of width 15; choose even");
  check({.widths = {20, 40}, .groups = 8}, 28, "of width 20 with 8 groups");
  check({.blocks = 0}, 32, "0 blocks a level");
  check({.time_scale = 0}, 32, "time scale of 0");
}

TEST_CASE("unet: with groups a sample does not depend on the others even while training") {
  torch::manual_seed(0);
  UNet net(UNetOptions{.widths = {8, 16}, .blocks = 1, .groups = 4, .time_scale = 1000});
  CHECK(net->buffers().empty());
  const at::Tensor x = torch::randn({3, 1, 28, 28});
  const at::Tensor t = torch::rand({3});
  const at::Tensor labels = torch::tensor({0, 4, 9});
  const at::Tensor all = net->forward(x, t, labels);
  const at::Tensor alone = net->forward(x.slice(0, 1, 2), t.slice(0, 1, 2), labels.slice(0, 1, 2));
  CHECK(close(alone[0], all[1], 1e-4, 1e-5));
}

TEST_CASE("unet: channels-last changes nothing and every parameter gets a gradient") {
  torch::manual_seed(0);
  const std::int64_t groups = GENERATE(0, 4);
  UNetOptions shape = UNetOptions::small();
  shape.groups = groups;
  UNet net(shape);
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

TEST_CASE("unet: one of two times begins as that of one, and has a derivative along them") {
  const std::int64_t groups = GENERATE(0, 4);
  UNetOptions shape{.widths = {8, 16}, .blocks = 1, .groups = groups};
  torch::manual_seed(0);
  UNet one(shape);
  shape.two_times = true;
  torch::manual_seed(0);
  UNet two(shape);
  for (UNet* net : {&one, &two}) {
    fm::to_channels_last(**net);
    (*net)->eval();
  }
  const at::Tensor x = torch::randn({3, 1, 28, 28});
  const at::Tensor t = torch::rand({3}), r = torch::ones({3});
  const at::Tensor labels = torch::tensor({0, 4, 9});
  CHECK(close(two->forward(x, t, r, labels), one->forward(x, t, labels), 1e-5, 1e-5));
  CHECK(torch::equal(two->forward(x, t, labels), two->forward(x, t, t, labels)));
  CHECK(two->gflop(28) > one->gflop(28));
  require_error<fm::OptionError>([&] { one->forward(x, t, r, labels); }, "build it with two_times");

  {
    const torch::NoGradGuard no_grad;
    two->named_parameters()["span2.weight"].normal_();
  }
  CHECK_FALSE(close(two->forward(x, t, r, labels), two->forward(x, t, labels), 1e-3, 1e-3));
  const fm::TwoTimeNoised<at::Tensor> noised{{x, t, torch::randn_like(x), labels}, r};
  const auto target = [&](fm::Derivative derivative) {
    return fm::MeanFlowLoss({.derivative = derivative}).target_of(two, noised);
  };
  CHECK(
      close(target(fm::Derivative::forward), target(fm::Derivative::double_backward), 1e-3, 1e-3));
  two->train();
  two->forward(x, t, r, labels).square().sum().backward();
  for (const auto& p : two->named_parameters()) {
    INFO(p.key());
    CHECK(p.value().grad().defined());
  }
}

TEST_CASE("unet: with statistics held training sees what sampling does, and leaves them") {
  torch::manual_seed(0);
  UNet net(UNetOptions{.widths = {8, 16}, .blocks = 1});
  const at::Tensor x = torch::randn({3, 1, 28, 28});
  const at::Tensor t = torch::rand({3});
  const at::Tensor labels = torch::tensor({0, 4, 9});
  net->forward(x, t, labels);  // so that there are some
  net->eval();
  const at::Tensor sampling = net->forward(x, t, labels);
  net->train();
  CHECK_FALSE(torch::allclose(net->forward(x, t, labels), sampling, 1e-3, 1e-3));
  net->eval();
  const at::Tensor with_more = net->forward(x, t, labels);
  net->hold_batch_norm();
  net->train();
  CHECK(net->is_training());
  CHECK(torch::equal(net->forward(x, t, labels), with_more));
  net->eval();
  CHECK(torch::equal(net->forward(x, t, labels), with_more));
}
