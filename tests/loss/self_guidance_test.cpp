#include "flowmatch/loss/self_guidance.hpp"

#include <tuple>

#include "flowmatch/loss/mean_flow.hpp"
#include "flowmatch/loss/objective.hpp"
#include "tests/support/test.hpp"

namespace {

using Pair = std::tuple<at::Tensor, at::Tensor>;

/// (label + scale) x, a hundred times of it in training.
struct PairNetImpl : torch::nn::Module {
  PairNetImpl() { w = register_parameter("w", on_device::ones({1})); }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t, const Pair& condition) {
    seen = std::get<0>(condition);
    const at::Tensor factor = std::get<0>(condition).to(x.dtype()) + std::get<1>(condition) + 0 * t;
    const at::Tensor v = w * factor.unsqueeze(1) * x;
    return is_training() ? 100 * v : v;
  }
  at::Tensor w, seen;
};
TORCH_MODULE(PairNet);

/// The same between two times.
struct PairMapImpl : torch::nn::Module {
  at::Tensor forward(const at::Tensor& x, const at::Tensor& t, const at::Tensor& r,
                     const Pair& condition) {
    return net->forward(x, t, condition) + (r - t).unsqueeze(1);
  }
  PairNet net = register_module("net", PairNet());
};
TORCH_MODULE(PairMap);

const Pair& null_pair() {
  static const Pair pair{on_device::tensor({10}), on_device::ones({1})};
  return pair;
}

/// Its loss is the mean of the target.
struct MeanTarget {
  template <class Model, class Example>
  at::Tensor operator()(Model&, const Example& noised) const {
    return noised.target.sum();
  }
};

}  // namespace

TEST_CASE("self_guidance: targets go from the model's own velocity without condition") {
  const at::Tensor x = on_device::randn({3, 2}), v = on_device::randn({3, 2});
  const at::Tensor t = on_device::rand({3}), scale = on_device::tensor({1.0F, 2.0F, 0.5F});
  const fm::Noised<Pair> noised{x, t, v, {on_device::tensor({4, 5, 6}), scale}};
  const at::Tensor own = 11 * x;  // label 10, scale 1, in evaluation mode
  const at::Tensor expected = own + scale.unsqueeze(1) * (v - own);

  PairNet net;
  const fm::SelfGuidedLoss summed(MeanTarget{}, null_pair());
  const at::Tensor loss = summed(net, noised);
  CHECK(close(loss, expected.sum(), 1e-4, 1e-4));
  CHECK_FALSE(loss.requires_grad());
  CHECK(net->is_training());
  CHECK(net->seen.eq(10).all().item<bool>());

  // The loss itself, with the gradient of the prediction alone.
  net->eval();
  const at::Tensor whole = fm::SelfGuidedLoss(fm::PredictionLoss<>{}, null_pair())(net, noised);
  const at::Tensor factor = on_device::tensor({4, 5, 6}) + scale;
  const at::Tensor prediction = factor.unsqueeze(1) * x;
  CHECK(close(whole, (prediction - expected).square().mean(), 1e-4, 1e-4));
  whole.backward();
  CHECK(close(net->w.grad(), (2 * (prediction - expected) * prediction).mean().view({1}), 1e-3,
              1e-3));
}

TEST_CASE("self_guidance: of a model of two times it is the velocity at one") {
  const at::Tensor x = on_device::randn({3, 2}), v = on_device::randn({3, 2});
  fm::TwoTimeNoised<Pair> noised;
  noised.x_t = x;
  noised.t = on_device::zeros({3});
  noised.r = on_device::ones({3});
  noised.target = v;
  noised.condition = {on_device::tensor({4, 5, 6}), on_device::full({3}, 2)};
  PairMap map;
  CHECK(close(fm::SelfGuidedLoss(MeanTarget{}, null_pair())(map, noised),
              (11 * x + 2 * (v - 11 * x)).sum(), 1e-4, 1e-4));
  const fm::SelfGuidedLoss loss(fm::MeanFlowLoss(), null_pair());
  CHECK(loss(map, noised).requires_grad());
}

TEST_CASE("self_guidance: what cannot be is refused") {
  require_error<fm::ShapeError>(
      [] {
        fm::SelfGuidedLoss(fm::PredictionLoss<>{},
                           Pair{on_device::tensor({1, 2}), on_device::ones({2})});
      },
      "2 entries for 1 samples");
  PairNet net;
  const fm::SelfGuidedLoss loss(fm::PredictionLoss<>{}, null_pair());
  const fm::Noised<Pair> noised{on_device::randn({3, 2}),
                                on_device::rand({3}),
                                on_device::randn({3, 2}),
                                {on_device::tensor({4, 5, 6}), on_device::ones({2})}};
  CHECK_THROWS_AS(loss(net, noised), fm::ShapeError);
}
