#include "examples/fashion_mnist/dataset.hpp"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cstdlib>
#include <cstring>
#include <ostream>
#include <string>
#include <vector>

#include "examples/support/gzip.hpp"
#include "examples/support/idx.hpp"
#include "flowmatch/core/error.hpp"

namespace fashion_mnist {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t largest = 60000 * 28 * 28 + 16;  // bytes of the training images, unpacked
constexpr std::int64_t image_side = 28;

at::Tensor read_array(const fs::path& folder, const std::string& name, std::size_t dimensions) {
  const fs::path packed = folder / (name + ".gz");
  const fs::path path = fs::exists(packed) ? packed : folder / name;
  if (!fs::exists(path)) {
    throw flowmatch::DataError("there is neither " + path.string() + " nor " +
                               packed.filename().string() +
                               " beside it; put Fashion-MNIST's files there, or leave out --data");
  }
  std::vector<std::byte> bytes = support::read_bytes(path, largest);
  if (path == packed) bytes = support::gunzip(bytes, largest, path.string());
  const support::Idx idx = support::read_idx(bytes, path.string());
  if (idx.shape.size() != dimensions) {
    throw flowmatch::DataError(path.string() + " has " + std::to_string(idx.shape.size()) +
                               " dimensions, not " + std::to_string(dimensions) +
                               "; check that it is the right file");
  }
  at::Tensor array = at::empty(idx.shape, at::kByte);
  if (array.numel() > 0)
    std::memcpy(array.mutable_data_ptr(), idx.values.data(), idx.values.size());
  return array;
}

Dataset read_dataset(const fs::path& folder, const std::string& prefix) {
  Dataset data{read_array(folder, prefix + "-images-idx3-ubyte", 3),
               read_array(folder, prefix + "-labels-idx1-ubyte", 1).to(at::kLong),
               prefix == "t10k"};
  if (data.images.size(0) == 0 || data.images.size(1) != image_side ||
      data.images.size(2) != image_side) {
    throw flowmatch::DataError("the images in " + folder.string() +
                               " are not 28 x 28; this network needs Fashion-MNIST");
  }
  if (data.images.size(0) != data.labels.size(0)) {
    throw flowmatch::DataError(folder.string() + " holds " + std::to_string(data.images.size(0)) +
                               " images and " + std::to_string(data.labels.size(0)) +
                               " labels; the files do not belong together");
  }
  if (data.labels.max().item<std::int64_t>() > 9) {
    throw flowmatch::DataError("a label in " + folder.string() + " is " +
                               std::to_string(data.labels.max().item<std::int64_t>()) +
                               "; Fashion-MNIST's are 0 to 9: check that it is the right file");
  }
  return data;
}

bool holds(const fs::path& folder, const std::string& prefix) {
  const fs::path file = folder / (prefix + "-images-idx3-ubyte");
  return fs::exists(file) || fs::exists(file.string() + ".gz");
}

}  // namespace

Dataset load_dataset(const fs::path& folder, std::ostream& log) {
  if (!folder.empty()) {
    const bool train = holds(folder, "train");
    if (!train && holds(folder, "t10k"))
      log << "note: " << folder.string() << " holds the test images only\n";
    return read_dataset(folder, train || !holds(folder, "t10k") ? "train" : "t10k");
  }
  std::vector<fs::path> places;
  if (const char* data = std::getenv("FLOWMATCH_DATA"))
    places.push_back(fs::path(data) / "fashion-mnist");
  places.push_back(fs::path("data") / "fashion-mnist");
  places.push_back(fs::path(FLOWMATCH_SOURCE_DIR) / "data" / "fashion-mnist");
  for (const fs::path& place : places) {
    if (holds(place, "train")) return read_dataset(place, "train");
  }
  log << "note: no training images found (give --data DIR or set FLOWMATCH_DATA); the 10,000 test "
         "images that come with the project serve instead\n";
  return read_dataset(fs::path(FLOWMATCH_SOURCE_DIR) / "examples" / "data" / "fashion-mnist",
                      "t10k");
}

at::Tensor Pixels::from_images(const at::Tensor& images) const {
  const std::int64_t before = (size - image_side) / 2;
  const std::int64_t after = size - image_side - before;
  const at::Tensor x = (images.unsqueeze(1).to(at::kFloat) / 127.5 - 1) * range;
  return at::constant_pad_nd(x, {before, after, before, after}, -range);
}

at::Tensor Pixels::to_images(const at::Tensor& x) const {
  const std::int64_t before = (size - image_side) / 2;
  const at::Tensor inner =
      x.slice(2, before, before + image_side).slice(3, before, before + image_side);
  return (inner.to(at::kFloat) / range).clamp(-1, 1).contiguous();
}

at::Tensor to_bytes(const at::Tensor& images) {
  return ((images + 1) * 127.5).round().to(at::kByte);
}

}  // namespace fashion_mnist
