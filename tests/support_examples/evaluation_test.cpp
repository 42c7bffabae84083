#include "examples/fashion_mnist/evaluation.hpp"

#include <cmath>
#include <limits>

#include "flowmatch/core/random.hpp"
#include "flowmatch/io/npy.hpp"
#include "tests/support/test.hpp"

using namespace fashion_mnist;

namespace {

// Judgements of images whose features are drawn about a mean, all judged as class 0.
Judgement judged(std::int64_t n, double mean, std::uint64_t seed) {
  fm::Rng rng(seed);
  return {rng.normal({n, 4}) + mean, torch::zeros({n}, torch::kLong)};
}

at::Tensor in_turn(std::int64_t n) { return torch::arange(n).remainder(10); }

std::string loading_fails(const at::Tensor& array) {
  const TemporaryFolder folder;
  fm::save_npy(folder.path() / "samples.npy", array);
  try {
    load_samples(folder.path() / "samples.npy");
  } catch (const fm::DataError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace

TEST_CASE("evaluation: samples are read as bytes or as numbers about 0") {
  const TemporaryFolder folder;
  const at::Tensor bytes = torch::randint(0, 256, {12, 28, 28}).to(torch::kByte);
  const auto file = folder.path() / "samples.npy";
  fm::save_npy(file, bytes);
  CHECK(at::equal(load_samples(file), bytes));
  fm::save_npy(file, bytes.unsqueeze(1));
  CHECK(at::equal(load_samples(file), bytes));
  fm::save_npy(file, bytes.unsqueeze(1).to(torch::kFloat) / 127.5 - 1);
  CHECK(at::equal(load_samples(file), bytes));
}

TEST_CASE("evaluation: what are no samples is refused") {
  const auto holds = [](const std::string& text, const std::string& part) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
  };
  holds(loading_fails(torch::zeros({12, 32, 32})), "an array of shape [12, 32, 32]");
  holds(loading_fails(torch::zeros({12, 3, 28, 28})), "an array of shape");
  holds(loading_fails(torch::zeros({9, 28, 28})), "9 images, less than 10");
  holds(loading_fails(torch::zeros({12, 28, 28}, torch::kLong)), "whole numbers of 64 bits");
  holds(loading_fails(torch::full({12, 28, 28}, 1.5)), "outside of [-1, 1]");
  holds(loading_fails(torch::full({12, 28, 28}, std::numeric_limits<float>::quiet_NaN())),
        "outside of [-1, 1]");
}

TEST_CASE("evaluation: labels are one a sample and from 0 to 9") {
  const TemporaryFolder folder;
  const auto file = folder.path() / "labels.npy";
  fm::save_npy(file, torch::tensor({3, 9, 0}).to(torch::kByte));
  CHECK(at::equal(load_labels(file, 3), torch::tensor({3, 9, 0})));
  require_error<fm::DataError>([&] { load_labels(file, 4); }, "no labels of 4 samples");
  for (const at::Tensor& bad : {torch::tensor({3, 10, 0}), torch::tensor({3, -1, 0}),
                                torch::zeros({3}), torch::zeros({3, 1}, torch::kLong)}) {
    fm::save_npy(file, bad);
    require_error<fm::DataError>([&] { load_labels(file, 3); }, "no labels of 3 samples");
  }
}

TEST_CASE("evaluation: images of the classes in turn are the first of each class") {
  // Labels 9, 8, …, 0, 9, 8, …: sample i is the image of class i mod 10 in the i/10-th group.
  const at::Tensor labels = 9 - in_turn(100);
  const at::Tensor found = classes_in_turn_among(labels, 25);
  CHECK(at::equal(labels.index_select(0, found), in_turn(25)));
  CHECK(found[0].item<std::int64_t>() == 9);
  CHECK(found[23].item<std::int64_t>() == 26);
  // No more than there are: class 3 has but two images.
  const at::Tensor few = torch::cat({in_turn(20), in_turn(3)});
  CHECK(classes_in_turn_among(few, 1000).size(0) == 23);
  CHECK(classes_in_turn_among(torch::cat({in_turn(10), torch::zeros({5}, torch::kLong)}), 1000)
            .size(0) == 11);
  require_error<fm::DataError>([&] { classes_in_turn_among(in_turn(7), 1000); },
                               "no image of class 7 among 7; choose another --held-out");
  require_error<fm::DataError>([&] { classes_in_turn_among(in_turn(10).slice(0, 1), 4); },
                               "no image of class 0 among 9");
}

TEST_CASE("evaluation: figures tell what is like the test images from what is not") {
  const Judgement test = judged(1000, 0, 1);
  const at::Tensor labels = in_turn(1000);
  const Figures alike = figures_of(judged(500, 0, 2), in_turn(500), test, labels);
  const Figures far = figures_of(judged(500, 2, 3), in_turn(500), test, labels);
  CHECK(alike.images == 500);
  CHECK(alike.agreement == Approx(0.1));  // all judged as class 0
  CHECK(alike.fid < 0.1);
  CHECK(far.fid == Approx(4 * 4).epsilon(0.05));
  CHECK(std::abs(alike.kid.value) < 4 * alike.kid.standard_error);
  CHECK(far.kid.value > 10 * far.kid.standard_error);
  CHECK(alike.neighbours.precision > 0.85);
  CHECK(alike.neighbours.recall > 0.85);
  CHECK(alike.balls.density == Approx(1).epsilon(0.1));
  CHECK(alike.balls.coverage > 0.9);
  CHECK(far.balls.coverage < 0.3);
  // More than there are test images.
  CHECK(figures_of(judged(1200, 0, 4), in_turn(1200), test, labels).images == 1200);
}

TEST_CASE("evaluation: the nearest image is found among bytes") {
  const at::Tensor others = torch::randint(0, 256, {60, 28, 28}).to(torch::kByte);
  at::Tensor samples = others.slice(0, 30, 42).clone();
  samples[2][5][5] = samples[2][5][5].item<std::uint8_t>() ^ 255U;
  const fm::Nearest found = nearest_images(samples, others);
  CHECK(at::equal(found.index, torch::arange(30, 42)));
  CHECK(found.distance[0].item<double>() == 0);
  const double moved = std::abs(samples[2][5][5].item<double>() - others[32][5][5].item<double>());
  CHECK(found.distance[2].item<double>() == Approx(moved / 255));
  const support::Picture picture = picture_of_pairs(samples, others, found);
  CHECK(picture.width > 2 * 10 * 2 * 28);
  CHECK(picture.height > 2 * 2 * 28);
}
