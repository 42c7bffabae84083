#include "examples/networks/dit.hpp"

#include "flowmatch/core/random.hpp"
#include "flowmatch/loss/mean_flow.hpp"
#include "tests/support/test.hpp"

using nets::DiT;
using nets::DiTOptions;

namespace {

/// With weights that are not the first ones, which answer 0.
DiT stirred(const DiTOptions& options, at::ScalarType dtype = at::kDouble) {
  torch::manual_seed(3);
  DiT net(options);
  const at::NoGradGuard no_grad;
  for (at::Tensor& p : net->parameters()) p.add_(0.1 * torch::randn_like(p));
  net->to(dtype);
  return net;
}

const DiTOptions sequence_shape{.channels = 3, .width = 8, .depth = 2, .heads = 2};
const DiTOptions image_shape{.channels = 2, .patch = 2, .width = 8, .depth = 2, .heads = 2};
const DiTOptions two_times{.channels = 3, .width = 8, .depth = 2, .heads = 2, .two_times = true};

at::Tensor numbers(at::IntArrayRef shape, at::ScalarType dtype = at::kDouble) {
  return fm::Rng(7).normal(shape, dtype);
}

/// A mask of sequences of these lengths.
at::Tensor mask_of(const std::vector<std::int64_t>& lengths, std::int64_t l) {
  return torch::arange(l).unsqueeze(0) < torch::tensor(lengths).unsqueeze(1);
}

}  // namespace

TEST_CASE("dit: a new one answers 0, of x's shape") {
  DiT sequences(sequence_shape), images(DiTOptions{.channels = 2, .patch = 2, .classes = 4});
  const at::Tensor t = torch::rand({2});
  const at::Tensor x = torch::randn({2, 5, 3}), y = torch::randn({2, 2, 4, 6});
  CHECK(torch::equal(sequences->forward(x, t), torch::zeros_like(x)));
  CHECK(torch::equal(images->forward(y, t, torch::tensor({1, 3})), torch::zeros_like(y)));
}

TEST_CASE("dit: patches go back to where they came from, and it knows where they are") {
  DiT net = stirred(image_shape);
  const at::Tensor t = torch::full({1}, 0.3, at::kDouble);
  at::Tensor x = torch::zeros({1, 2, 4, 6}, at::kDouble);
  const at::Tensor blank = net->forward(x, t);
  CHECK((blank.narrow(2, 0, 2) - blank.narrow(2, 2, 2)).abs().max().item<double>() > 1e-3);
  CHECK((blank.narrow(3, 0, 2) - blank.narrow(3, 2, 2)).abs().max().item<double>() > 1e-3);
  // What changes in a patch changes the answer most there.
  x[0][1][2][5] = 10;
  const at::Tensor change = (net->forward(x, t) - blank).abs()[0].sum(0);
  const at::Tensor by_patch = change.unfold(0, 2, 2).unfold(1, 2, 2).sum({2, 3});
  CHECK(by_patch.argmax().item<std::int64_t>() == 5);
  CHECK(close(net->forward(x.contiguous(at::MemoryFormat::ChannelsLast), t), net->forward(x, t)));
}

TEST_CASE("dit: the forward derivative is that of differences and of double backward") {
  for (const bool images : {false, true}) {
    DiT net = stirred(images ? image_shape : sequence_shape);
    const at::Tensor x = images ? numbers({3, 2, 4, 4}) : numbers({3, 5, 3});
    const at::Tensor dx = torch::randn_like(x), t = torch::tensor({0.1, 0.5, 0.8}, at::kDouble);
    const auto f = [&](const at::Tensor& x_, const at::Tensor& t_) { return net->forward(x_, t_); };
    const at::Tensor forward = fm::detail::derivative_forward(f, x, dx, t);
    const at::NoGradGuard no_grad;
    const double h = 1e-6;
    const at::Tensor differences = (f(x + h * dx, t + h) - f(x - h * dx, t - h)) / (2 * h);
    CHECK(forward.abs().max().item<double>() > 0.1);
    CHECK(close(forward, differences, 1e-6, 1e-6));
    CHECK(close(forward, fm::detail::derivative_backward(f, x, dx, t), 1e-9, 1e-9));
  }
}

TEST_CASE("dit: the same holds with a mask") {
  DiT net = stirred(sequence_shape);
  const at::Tensor x = numbers({3, 5, 3}), dx = torch::randn_like(x);
  const at::Tensor t = torch::tensor({0.1, 0.5, 0.8}, at::kDouble), mask = mask_of({5, 2, 0}, 5);
  const auto f = [&](const at::Tensor& x_, const at::Tensor& t_) {
    return net->forward(x_, t_, mask);
  };
  const at::Tensor forward = fm::detail::derivative_forward(f, x, dx, t);
  CHECK(forward.isfinite().all().item<bool>());
  CHECK(close(forward, fm::detail::derivative_backward(f, x, dx, t), 1e-9, 1e-9));
}

TEST_CASE("dit: a sequence answers the same alone and padded, whatever the padding holds") {
  DiTOptions options = sequence_shape;
  options.classes = 4;
  DiT net = stirred(options);
  const at::Tensor x = numbers({2, 3, 3}), t = torch::tensor({0.2, 0.9}, at::kDouble);
  const at::Tensor label = torch::tensor({0, 3});
  const at::Tensor alone = net->forward(x, t, label);
  for (const double padding : {0.0, 100.0, nan_value}) {
    const at::Tensor longer = at::cat({x, torch::full({2, 4, 3}, padding, at::kDouble)}, 1);
    const at::Tensor y = net->forward(longer, t, std::tuple(label, mask_of({3, 3}, 7)));
    CHECK(close(y.narrow(1, 0, 3), alone, 1e-12, 1e-12));
    CHECK(y.narrow(1, 3, 4).eq(0).all().item<bool>());
  }
  // Without the mask it would not be.
  const at::Tensor longer = at::cat({x, torch::zeros({2, 4, 3}, at::kDouble)}, 1);
  CHECK_FALSE(close(net->forward(longer, t, label).narrow(1, 0, 3), alone, 1e-3, 1e-3));
}

TEST_CASE("dit: a sample that is all padding makes no NaN, forward or back") {
  DiT net = stirred(sequence_shape);
  const at::Tensor x = numbers({2, 4, 3}).requires_grad_();
  const at::Tensor y = net->forward(x, torch::rand({2}, at::kDouble), mask_of({0, 4}, 4));
  CHECK(y[0].eq(0).all().item<bool>());
  y.square().sum().backward();
  CHECK(x.grad().isfinite().all().item<bool>());
  CHECK(x.grad()[0].eq(0).all().item<bool>());
  for (const at::Tensor& p : net->parameters()) CHECK(p.grad().isfinite().all().item<bool>());
}

TEST_CASE("dit: of two times it begins as the velocity") {
  torch::manual_seed(5);
  DiT net(two_times);
  {
    const at::NoGradGuard no_grad;
    for (auto& p : net->named_parameters()) {
      if (p.key().find("span2") == std::string::npos) p.value().add_(0.1);
    }
  }
  const at::Tensor x = torch::randn({2, 4, 3}), t = torch::tensor({0.1F, 0.5F});
  const at::Tensor v = net->forward(x, t);
  CHECK(v.abs().max().item<double>() > 0);
  CHECK(torch::equal(net->forward(x, t, t), v));
  CHECK(torch::equal(net->forward(x, t, torch::ones({2})), v));
}

TEST_CASE("dit: in bfloat16 it answers in bfloat16, near what it is in float32") {
  DiT net = stirred(sequence_shape, at::kFloat);
  const at::Tensor x = numbers({2, 5, 3}, at::kFloat), t = torch::tensor({0.999F, 0.5F});
  const at::Tensor exact = net->forward(x, t);
  net->to(at::kBFloat16);
  const at::Tensor y = net->forward(x.to(at::kBFloat16), t);
  CHECK(y.scalar_type() == at::kBFloat16);
  CHECK((y.to(at::kFloat) - exact).abs().max().item<double>() <
        0.05 * exact.abs().max().item<double>());
}

TEST_CASE("dit: what does not fit is refused with a remedy") {
  const at::Tensor t = torch::rand({2}), x = torch::randn({2, 5, 3}), label = torch::tensor({0, 1});
  DiT net(sequence_shape), images(image_shape), labelled(DiTOptions{.channels = 3, .classes = 4});
  const auto shape = [](const auto& f, const char* text) {
    require_error<fm::ShapeError>(f, text);
  };
  const auto option = [](const auto& f, const char* text) {
    require_error<fm::OptionError>(f, text);
  };
  shape([&] { net->forward(torch::randn({2, 5, 4}), t); }, "sequences [B, L, 3]");
  shape([&] { net->forward(torch::randn({2, 3}), t); }, "sequences [B, L, 3]");
  shape([&] { images->forward(torch::randn({2, 2, 5, 4}), t); }, "sides that 2 divides");
  shape(
      [&] {
        images->forward(torch::randn({2, 2, 4, 4}), t, torch::ones({2, 4}, at::kBool));
      },
      "takes no mask");
  shape([&] { net->forward(x, torch::rand({3})); }, "one time for each");
  shape([&] { net->forward(x, t, torch::ones({2, 4}, at::kBool)); }, "give bool [B, L]");
  shape([&] { labelled->forward(x, t, torch::tensor({0})); }, "one for each sample");
  shape([&] { labelled->forward(x, t, label, label); }, "two inputs of one kind");
  shape([&] { net->forward(x, t, at::Tensor()); }, "leave it out");
  option([&] { labelled->forward(x, t); }, "needs a label");
  option([&] { net->forward(x, t, label); }, "knows no labels");
  option([&] { net->forward(x, t, t); }, "two_times");
  option([] { DiT(DiTOptions{.width = 6}); }, "4 divides");
  option([] { DiT(DiTOptions{.time_scale = 0}); }, "finite one above 0");
  option([] { DiT(DiTOptions{.depth = 0}); }, "at least 1");
  option([] { DiT(DiTOptions{.width = 8, .heads = 3}); }, "heads that divide");
}
