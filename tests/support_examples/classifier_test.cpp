#include "examples/fashion_mnist/classifier.hpp"

#include <sstream>

#include "examples/fashion_mnist/dataset.hpp"
#include "flowmatch/core/error.hpp"
#include "tests/support/test.hpp"

namespace fs = std::filesystem;
using namespace fashion_mnist;

namespace {

const fs::path project = FLOWMATCH_SOURCE_DIR;

Dataset test_images() {
  std::ostringstream log;
  return load_dataset(project / "examples" / "data" / "fashion-mnist", log);
}

}  // namespace

TEST_CASE("classifier: the judge that comes with the project knows the test images") {
  const fs::path folder = project / "examples" / "models" / "fashion-mnist-judge";
  CHECK(fs::file_size(folder / "model.pt") <= 2'000'000);
  Classifier judge_net = load_classifier(folder, torch::kCPU);
  const Dataset test = test_images();
  const at::Tensor images = test.images.slice(0, 0, 1000);
  const Judgement judged = judge(judge_net, images);
  CHECK(judged.features.sizes() == at::IntArrayRef({1000, 128}));
  CHECK(judged.features.ge(0).all().item<bool>());
  CHECK(agreement(judged.classes, test.labels.slice(0, 0, 1000)) > 0.91);
  // What it says of an image does not depend on the others, nor on the axis of one channel.
  const Judgement alone = judge(judge_net, images.slice(0, 7, 8).unsqueeze(1));
  CHECK(close(alone.features[0], judged.features[7], 1e-4, 1e-5));
}

TEST_CASE("classifier: judging leaves the mode as it was") {
  Classifier net;
  std::int64_t parameters = 0;
  for (const at::Tensor& p : net->parameters()) parameters += p.numel();
  CHECK(parameters == 278'890);
  const at::Tensor before = net->named_buffers()["convolutions.1.running_mean"].clone();
  judge(net, torch::zeros({2, 28, 28}, torch::kByte));
  CHECK(net->is_training());
  CHECK(at::equal(net->named_buffers()["convolutions.1.running_mean"], before));
}

TEST_CASE("classifier: it sees pixels about 0") {
  const at::Tensor seen = judged_pixels(torch::full({2, 28, 28}, 255, torch::kByte));
  CHECK(close(seen, torch::full({2, 1, 28, 28}, 0.5F)));
  for (const at::Tensor& bad : {torch::zeros({2, 28, 28}), torch::zeros({2, 32, 32}, torch::kByte),
                                torch::zeros({2, 3, 28, 28}, torch::kByte)}) {
    require_error<fm::ShapeError>([&] { judged_pixels(bad); }, "the judge takes uint8 images");
  }
}

TEST_CASE("classifier: agreement is a share") {
  CHECK(agreement(torch::tensor({1, 2, 3, 4}), torch::tensor({1, 2, 0, 0})) == 0.5);
}

TEST_CASE("classifier: a folder that holds no judge is refused") {
  require_error<fm::CheckpointError>([] { load_classifier("nowhere", torch::kCPU); },
                                     "no such folder");
  require_error<fm::CheckpointError>(
      [] { load_classifier(project / "examples" / "models" / "fashion-mnist-small", torch::kCPU); },
      "another network");
}
