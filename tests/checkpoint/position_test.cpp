#include "flowmatch/checkpoint/position.hpp"

#include "tests/train/training.hpp"

TEST_CASE("position: it goes through a manifest") {
  const fm::Position position{7, 1, 3, 2, "some data\nof mine"};
  fm::Manifest manifest;
  position.describe(manifest);
  const fm::Position back = fm::Position::from(fm::Manifest::from_text(manifest.to_text()));
  REQUIRE(back.step == 7);
  REQUIRE(back.epoch == 1);
  REQUIRE(back.batch == 3);
  REQUIRE(back.rollbacks == 2);
  REQUIRE(back.data == "some data\nof mine");
}

TEST_CASE("position: checkpoints without rollbacks count none and without a step are refused") {
  fm::Manifest manifest;
  manifest.set("step", 7);
  manifest.set("epoch", 1);
  manifest.set("batch", 3);
  manifest.set("data", "x");
  REQUIRE(fm::Position::from(manifest).rollbacks == 0);
  require_error<fm::CheckpointError>([] { fm::Position::from(fm::Manifest()); }, "'step'");
}

TEST_CASE("position: a run that has begun keeps its data") {
  fm::Position position;
  position.set_data("a");
  position.set_data("b");
  position.step = 1;
  position.set_data("b");
  require_error<fm::OptionError>([&] { position.set_data("c"); }, "b before\n  c now");
  REQUIRE(position.data == "b");
}

TEST_CASE("position: a source is described by its fingerprint or its number of batches") {
  auto restartable = training::batches();
  REQUIRE(fm::data_text(restartable) == restartable.fingerprint());
  training::PlainSource plain;
  REQUIRE(fm::data_text(plain) == "6 batches an epoch");
}

TEST_CASE("position: the noise of a batch follows from its place in the run and the rollbacks") {
  const auto draw = [](const fm::Position& position, std::int64_t ahead) {
    return position.rng(5, test_device(), 6, ahead).normal({4});
  };
  const at::Tensor ninth = draw({.epoch = 1, .batch = 3}, 0);
  CHECK(at::equal(ninth, fm::Rng(5, test_device()).fork("noise of a batch", 9).normal({4})));
  CHECK(at::equal(ninth, draw({.epoch = 1, .batch = 2}, 1)));
  CHECK(at::equal(ninth, draw({.epoch = 0, .batch = 9}, 0)));
  CHECK_FALSE(at::equal(ninth, draw({.epoch = 1, .batch = 4}, 0)));
  const at::Tensor once = draw({.epoch = 1, .batch = 3, .rollbacks = 1}, 0);
  CHECK_FALSE(at::equal(once, ninth));
  CHECK_FALSE(at::equal(once, draw({.epoch = 1, .batch = 3, .rollbacks = 2}, 0)));
}
