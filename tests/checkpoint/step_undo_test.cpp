#include "flowmatch/checkpoint/step_undo.hpp"

#include "tests/support/networks.hpp"

namespace {

at::Tensor run(networks::Conditional& net) {
  net->train();
  net->forward(torch::randn({4, 1, 5, 5}), torch::rand({4}), torch::zeros({4}, torch::kLong));
  return net->norm->running_mean.clone();
}

}  // namespace

TEST_CASE("step_undo: buffers and the default generator go back unless they are kept") {
  at::manual_seed(3);
  networks::Conditional net;
  const at::Tensor before = net->norm->running_mean.clone();
  at::Tensor first;
  {
    const fm::StepUndo undo(net->buffers(), c10::kCPU);
    first = run(net);
    REQUIRE(!torch::equal(first, before));
  }
  REQUIRE(torch::equal(net->norm->running_mean, before));
  REQUIRE(net->norm->num_batches_tracked.item<std::int64_t>() == 0);
  {
    fm::StepUndo undo(net->buffers(), c10::kCPU);
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
  fm::StepUndo undo(net->buffers(), c10::kCPU);
  const at::Tensor after = run(net);
  undo.restore_buffers_where(torch::tensor(false));
  REQUIRE(torch::equal(net->norm->running_mean, after));
  undo.restore_buffers_where(torch::tensor(true));
  REQUIRE(torch::equal(net->norm->running_mean, before));
  run(net);
  undo.restore_buffers();
  REQUIRE(torch::equal(net->norm->running_mean, before));
  undo.keep();
}
