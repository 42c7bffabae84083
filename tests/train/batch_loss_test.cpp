#include "flowmatch/train/batch_loss.hpp"

#include <cstdint>

#include "tests/train/training.hpp"

TEST_CASE("batch_loss: it is the objective of what the noisifier makes") {
  networks::Mlp net = training::mlp();
  const fm::Batch<> batch{on_device::put(training::points(5))};
  const auto noisifier = training::noisifier();
  const fm::PredictionLoss<> objective;
  fm::Rng rng(9, test_device());
  const fm::Noised<> noised = noisifier(batch, rng);
  const at::Tensor expected = torch::mse_loss(net->forward(noised.x_t, noised.t), noised.target);
  const at::Tensor loss =
      fm::batch_loss(net, noisifier, objective, batch, fm::Rng(9, test_device()));
  REQUIRE(torch::equal(loss, expected));
  REQUIRE(loss.requires_grad());
}

TEST_CASE("batch_loss: the model alone computes in the lower precision") {
  networks::Mlp net = training::mlp();
  const fm::Batch<> batch{training::points(5)};
  at::ScalarType input{}, output{};
  const auto objective = [&](auto& model, const fm::Noised<>& noised) {
    const at::Tensor prediction = fm::call_model(model, noised.x_t, noised.t);
    input = noised.x_t.scalar_type();
    output = prediction.scalar_type();
    return torch::mse_loss(prediction, noised.target);
  };
  const auto loss = [&](fm::Precision precision) {
    return fm::batch_loss(net, training::noisifier(), objective, batch, fm::Rng(9, test_device()),
                          precision);
  };
  const at::Tensor exact = loss(fm::Precision::float32);
  REQUIRE(output == torch::kFloat);
  const at::Tensor rounded = loss(fm::Precision::bfloat16);
  REQUIRE(input == torch::kFloat);
  REQUIRE(output == torch::kBFloat16);
  REQUIRE(rounded.scalar_type() == torch::kFloat);
  REQUIRE(!torch::equal(rounded, exact));
  REQUIRE(close(rounded, exact, 2e-2, 0));
  loss(fm::Precision::float16);
  REQUIRE(output == torch::kHalf);
}

TEST_CASE("batch_loss: the losses of the ranks add up to that of the batch") {
  struct Rank {
    std::int64_t r, n;
    std::int64_t rank() const { return r; }
    std::int64_t size() const { return n; }
    fm::SingleProcess::Done all_reduce(const at::Tensor&) const { return {}; }
    void broadcast(const at::Tensor&) const {}
    void barrier() const {}
  };
  networks::Mlp net = training::mlp();
  const fm::Batch<> batch{training::points(5)};
  const auto loss = [&](std::int64_t rank, std::int64_t size) {
    return fm::batch_loss(net, training::noisifier(), fm::PredictionLoss<>{}, batch,
                          fm::Rng(9, test_device()), fm::Precision::float32, Rank{rank, size});
  };
  REQUIRE(close(loss(0, 2) + loss(1, 2), loss(0, 1), 1e-6, 0));
  REQUIRE(!torch::equal(loss(0, 2), loss(1, 2)));
  int empty = 0;
  for (std::int64_t rank = 0; rank < 7; ++rank) empty += loss(rank, 7).defined() ? 0 : 1;
  REQUIRE(empty == 2);
}

TEST_CASE("batch_loss: an objective gives one number") {
  networks::Mlp net = training::mlp();
  const auto loss = [&](const auto& objective) {
    return fm::batch_loss(net, training::noisifier(), objective, fm::Batch<>{training::points(5)},
                          fm::Rng(9, test_device()));
  };
  const auto errors = [](auto& model, const fm::Noised<>& noised) {
    return (fm::call_model(model, noised.x_t, noised.t) - noised.target).square();
  };
  require_error<fm::ShapeError>(
      [&] { loss([&](auto& m, const fm::Noised<>& n) { return errors(m, n).mean(1); }); },
      "a loss of shape [5]; give one number, the mean");
  require_error<fm::ShapeError>(
      [&] { loss([](auto&, const fm::Noised<>&) { return at::Tensor(); }); }, "give one number");
  const at::Tensor one =
      loss([&](auto& m, const fm::Noised<>& n) { return errors(m, n).mean().view({1}); });
  CHECK(one.dim() == 0);
  CHECK(
      torch::equal(one, loss([&](auto& m, const fm::Noised<>& n) { return errors(m, n).mean(); })));
}
