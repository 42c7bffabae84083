#include "flowmatch/checkpoint/step_undo.hpp"

#include <utility>
#include <vector>

#include "tests/support/networks.hpp"

namespace {

at::Tensor run(networks::Conditional& net) {
  net->train();
  net->forward(torch::randn({4, 1, 5, 5}, test_device()), torch::rand({4}, test_device()),
               on_device::zeros({4}, torch::kLong));
  return net->norm->running_mean.clone();
}

}  // namespace

TEST_CASE("step_undo: buffers and the default generator go back unless they are kept") {
  at::manual_seed(3);
  networks::Conditional net;
  const at::Tensor before = net->norm->running_mean.clone();
  at::Tensor first;
  {
    const fm::StepUndo undo(net->buffers(), test_device());
    first = run(net);
    REQUIRE(!torch::equal(first, before));
  }
  REQUIRE(torch::equal(net->norm->running_mean, before));
  REQUIRE(net->norm->num_batches_tracked.item<std::int64_t>() == 0);
  {
    fm::StepUndo undo(net->buffers(), test_device());
    REQUIRE(torch::equal(run(net), first));  // from the same random numbers
    undo.keep();
  }
  REQUIRE(torch::equal(net->norm->running_mean, first));
  REQUIRE(net->norm->num_batches_tracked.item<std::int64_t>() == 1);
}

TEST_CASE("step_undo: buffers alone go back when asked for or where a flag says so") {
  at::manual_seed(3);
  networks::Conditional net;
  const at::Tensor before = net->norm->running_mean.clone();
  fm::StepUndo undo(net->buffers(), test_device());
  const at::Tensor after = run(net);
  undo.restore_buffers_where(on_device::tensor(false));
  REQUIRE(torch::equal(net->norm->running_mean, after));
  undo.restore_buffers_where(on_device::tensor(true));
  REQUIRE(torch::equal(net->norm->running_mean, before));
  run(net);
  undo.restore_buffers();
  REQUIRE(torch::equal(net->norm->running_mean, before));
  undo.keep();
}

TEST_CASE("step_undo: a buffer may lie on another device than what says that it goes back") {
  at::Tensor buffer = torch::ones({2});
  fm::StepUndo undo({buffer}, test_device());
  buffer.fill_(2);
  undo.restore_buffers_where(on_device::tensor(false));
  REQUIRE(torch::equal(buffer, torch::full({2}, 2.0F)));
  undo.restore_buffers_where(on_device::tensor(true));
  REQUIRE(torch::equal(buffer, torch::ones({2})));
}

TEST_CASE("step_undo: buffers of every kind go back") {
  const std::vector<std::pair<at::Tensor, at::Tensor>> kinds{
      // before, and what a step makes of it
      {on_device::tensor({true, false}), on_device::tensor({false, false})},
      {on_device::tensor({1, 2}), on_device::tensor({3, 4})},
      {on_device::full({2}, c10::complex<double>(1, 2)),
       on_device::full({2}, c10::complex<double>(3, 4))},
      {on_device::ones({2}, torch::kHalf), on_device::zeros({2}, torch::kHalf)},
      {on_device::ones({2}).to(torch::kFloat8_e4m3fn),
       on_device::zeros({2}).to(torch::kFloat8_e4m3fn)},
      {doubles({-infinity, nan_value}), doubles({1, 2})},
      {on_device::ones({}), on_device::zeros({})},
      {on_device::empty({0, 3}), on_device::empty({0, 3})},
      {on_device::ones({2, 1}).expand({2, 3}), on_device::full({2, 3}, 4.0F)},
      {on_device::ones({4, 4}).t(), on_device::zeros({4, 4})},
  };
  const auto bits = [](const at::Tensor& t) {
    return t.is_floating_point() ? t.to(torch::kDouble).nan_to_num(77) : t;
  };
  for (const bool masked : {false, true}) {
    for (const auto& [before, after] : kinds) {
      INFO(before.scalar_type());
      at::Tensor buffer = before.sizes() == at::IntArrayRef{2, 3}
                              ? on_device::ones({2, 1}).expand({2, 3})
                              : before.clone();
      fm::StepUndo undo({buffer}, test_device());
      fm::without_repetitions(buffer).copy_(
          fm::without_repetitions(buffer).sizes() == after.sizes() ? after : after.slice(1, 0, 1));
      if (masked) {
        undo.restore_buffers_where(on_device::tensor(false));
        REQUIRE(torch::equal(bits(buffer), bits(after)));
        undo.restore_buffers_where(on_device::tensor(true));
      } else {
        undo.restore_buffers();
      }
      REQUIRE(torch::equal(bits(buffer), bits(before)));
    }
  }
}

TEST_CASE("step_undo: buffers that were resized or given other data get their own back") {
  for (const int way : {0, 1, 2, 3, 4}) {
    INFO(way);
    const at::Tensor buffer = doubles({1, 2, 3, 4});
    const at::Tensor alias = buffer.slice(0, 0, 2);
    const auto change = [&] {
      at::Tensor b = buffer;
      if (way == 0) b.resize_({100}).fill_(7);
      if (way == 1) b.resize_({2}).fill_(7);
      if (way == 2) b.set_data(on_device::full({4}, 7, torch::kDouble));
      if (way == 3) b.set_data(on_device::full({2, 2}, 7, torch::kFloat));
      if (way == 4) b.fill_(7);
    };
    {
      const fm::StepUndo undo({buffer}, test_device());
      change();
      REQUIRE(!torch::equal(buffer, doubles({1, 2, 3, 4})));
    }
    REQUIRE(torch::equal(buffer, doubles({1, 2, 3, 4})));
    if (way > 1) REQUIRE(alias.is_alias_of(buffer));
    fm::StepUndo undo({buffer}, test_device());
    change();
    undo.restore_buffers_where(on_device::tensor(false));
    REQUIRE(!torch::equal(buffer, doubles({1, 2, 3, 4})));
    undo.restore_buffers_where(on_device::tensor(true));
    REQUIRE(torch::equal(buffer, doubles({1, 2, 3, 4})));
    undo.keep();
  }
}
