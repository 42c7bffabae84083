#include "examples/fashion_mnist/dataset.hpp"

#include <cstdlib>
#include <optional>
#include <sstream>

#include "flowmatch/core/error.hpp"
#include "tests/support/test.hpp"
#include "tests/support_examples/bytes.hpp"

namespace fs = std::filesystem;
using fashion_mnist::load_dataset;

using fashion_mnist::Pixels;

namespace {

// A folder with `n` images and labels, as files of the training set.
void fill(const fs::path& folder, std::uint32_t n, const std::string& prefix = "train") {
  fs::create_directories(folder);
  write_bytes(folder / (prefix + "-images-idx3-ubyte"), idx_file({n, 28, 28}, n * 784, 7));
  write_bytes(folder / (prefix + "-labels-idx1-ubyte"), idx_file({n}, n, 9));
}

std::string loading_fails(const fs::path& folder) {
  std::ostringstream log;
  try {
    load_dataset(folder, log);
  } catch (const fm::DataError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

// $FLOWMATCH_DATA for the time of a test.
class DataVariable {
 public:
  explicit DataVariable(const fs::path& path) {
    if (const char* before = std::getenv("FLOWMATCH_DATA")) before_ = before;
    setenv("FLOWMATCH_DATA", path.c_str(), 1);
  }
  ~DataVariable() {
    if (before_) {
      setenv("FLOWMATCH_DATA", before_->c_str(), 1);
    } else {
      unsetenv("FLOWMATCH_DATA");
    }
  }
  DataVariable(const DataVariable&) = delete;
  DataVariable& operator=(const DataVariable&) = delete;

 private:
  std::optional<std::string> before_;
};

}  // namespace

TEST_CASE("dataset: the images that come with the project are whole") {
  std::ostringstream log;
  const auto folder = fs::path(FLOWMATCH_SOURCE_DIR) / "examples" / "data" / "fashion-mnist";
  const fashion_mnist::Dataset data = load_dataset(folder, log);
  REQUIRE(data.is_test);
  REQUIRE(data.images.sizes() == at::IntArrayRef({10000, 28, 28}));
  REQUIRE(data.images.scalar_type() == at::kByte);
  REQUIRE(data.labels.scalar_type() == at::kLong);
  // Fashion-MNIST has as many images of each class: 1,000 among these. The first is an ankle boot.
  REQUIRE(at::equal(data.labels.bincount(), at::full({10}, 1000, at::kLong)));
  REQUIRE(data.labels[0].item<std::int64_t>() == 9);
  REQUIRE(log.str().find("test images only") != std::string::npos);
}

TEST_CASE("dataset: unpacked and gzipped files are read alike") {
  const TemporaryFolder folder;
  std::ostringstream log;
  fill(folder.path(), 3);
  const fashion_mnist::Dataset unpacked = load_dataset(folder.path(), log);
  REQUIRE_FALSE(unpacked.is_test);
  REQUIRE(unpacked.images.eq(7).all().item<bool>());
  REQUIRE(at::equal(unpacked.labels, at::full({3}, 9, at::kLong)));
  write_bytes(folder.path() / "train-images-idx3-ubyte.gz",
              gzip(idx_file({3, 28, 28}, 3 * 784, 8)));
  REQUIRE(load_dataset(folder.path(), log).images.eq(8).all().item<bool>());
  REQUIRE(log.str().empty());
}

TEST_CASE("dataset: the variable FLOWMATCH_DATA names a place to look") {
  const TemporaryFolder folder;
  const DataVariable variable(folder.path());
  fill(folder.path() / "fashion-mnist", 5);
  std::ostringstream log;
  REQUIRE(load_dataset({}, log).images.size(0) == 5);
  REQUIRE(log.str().empty());
}

TEST_CASE("dataset: a missing file is named with the remedy") {
  const TemporaryFolder folder;
  REQUIRE(loading_fails(folder.path() / "none").find("train-images-idx3-ubyte") !=
          std::string::npos);
  REQUIRE(loading_fails(folder.path()).find("put Fashion-MNIST's files there") !=
          std::string::npos);
  fill(folder.path(), 3);
  fs::remove(folder.path() / "train-labels-idx1-ubyte");
  REQUIRE(loading_fails(folder.path()).find("train-labels-idx1-ubyte") != std::string::npos);
}

TEST_CASE("dataset: as many labels as images and none above 9") {
  const TemporaryFolder folder;
  fill(folder.path(), 3);
  const auto labels = folder.path() / "train-labels-idx1-ubyte";
  write_bytes(labels, idx_file({4}, 4, 1));
  REQUIRE(loading_fails(folder.path()).find("holds 3 images and 4 labels") != std::string::npos);
  write_bytes(labels, idx_file({3}, 3, 10));
  REQUIRE(loading_fails(folder.path()).find("is 10; Fashion-MNIST's are 0 to 9") !=
          std::string::npos);
}

TEST_CASE("dataset: images of another size and none at all are refused") {
  const TemporaryFolder folder;
  fill(folder.path(), 0);
  REQUIRE(loading_fails(folder.path()).find("not 28 x 28") != std::string::npos);
  fill(folder.path(), 3);
  write_bytes(folder.path() / "train-images-idx3-ubyte", idx_file({3, 32, 32}, 3 * 1024));
  REQUIRE(loading_fails(folder.path()).find("not 28 x 28") != std::string::npos);
  write_bytes(folder.path() / "train-images-idx3-ubyte", idx_file({3}, 3));
  REQUIRE(loading_fails(folder.path()).find("has 1 dimensions, not 3") != std::string::npos);
}

TEST_CASE("dataset: damaged files are named") {
  const TemporaryFolder folder;
  fill(folder.path(), 3);
  const auto images = folder.path() / "train-images-idx3-ubyte";
  fs::resize_file(images, 1000);
  REQUIRE(loading_fails(folder.path()).find("declares 2352 values, it holds 984") !=
          std::string::npos);
  Bytes packed = gzip(idx_file({3, 28, 28}, 3 * 784));
  packed.resize(packed.size() - 9);
  write_bytes(images.string() + ".gz", packed);
  REQUIRE(loading_fails(folder.path())
              .find("train-images-idx3-ubyte.gz cannot be unpacked: it is "
                    "cut short") != std::string::npos);
}

TEST_CASE("dataset: a file that unpacks into more than the training set is stopped") {
  const TemporaryFolder folder;
  fill(folder.path(), 3);
  write_bytes(folder.path() / "train-images-idx3-ubyte.gz", gzip(Bytes(48000000)));
  REQUIRE(loading_fails(folder.path()).find("more than the 47040016 bytes") != std::string::npos);
}

TEST_CASE("dataset: pixels are padded with background and lie in their range") {
  const at::Tensor images = torch::full({2, 28, 28}, 255, torch::kByte);
  const at::Tensor pixels = Pixels{}.from_images(images);  // the post's
  REQUIRE(pixels.sizes() == at::IntArrayRef({2, 1, 32, 32}));
  REQUIRE(pixels.scalar_type() == at::kFloat);
  REQUIRE(pixels.slice(2, 2, 30).slice(3, 2, 30).eq(0.5).all().item<bool>());
  REQUIRE(pixels.eq(-0.5).sum().item<std::int64_t>() == 2 * (32 * 32 - 28 * 28));
  const at::Tensor bare = Pixels{.size = 28, .range = 1}.from_images(images);
  REQUIRE(bare.sizes() == at::IntArrayRef({2, 1, 28, 28}));
  REQUIRE(bare.eq(1).all().item<bool>());
}

TEST_CASE("dataset: to_images undoes from_images and clamps") {
  const at::Tensor images = torch::arange(784, torch::kLong).remainder(256).view({1, 28, 28});
  for (const Pixels& pixels : {Pixels{}, Pixels{28, 1}, Pixels{31, 2}}) {
    const at::Tensor x = pixels.to_images(pixels.from_images(images.to(at::kByte)));
    REQUIRE(x.sizes() == at::IntArrayRef({1, 1, 28, 28}));
    REQUIRE(close(x[0], images.to(at::kFloat) / 127.5 - 1, 0, 1e-6));
    const at::Tensor wild = pixels.to_images(torch::full({1, 1, pixels.size, pixels.size}, -3.0F));
    REQUIRE(wild.eq(-1).all().item<bool>());
  }
}
