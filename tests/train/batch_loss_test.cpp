#include "flowmatch/train/batch_loss.hpp"

#include "tests/train/training.hpp"

TEST_CASE("batch_loss: it is the objective of what the noisifier makes") {
  networks::Mlp net = training::mlp();
  const fm::Batch<> batch{training::points(5)};
  const auto noisifier = training::noisifier();
  const fm::PredictionLoss<> objective;
  fm::Rng rng(9);
  const fm::Noised<> noised = noisifier(batch, rng);
  const at::Tensor expected = torch::mse_loss(net->forward(noised.x_t, noised.t), noised.target);
  const at::Tensor loss = fm::batch_loss(net, noisifier, objective, batch, fm::Rng(9));
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
    return fm::batch_loss(net, training::noisifier(), objective, batch, fm::Rng(9), precision);
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
