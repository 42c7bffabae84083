#include "examples/support/image_folder.hpp"

#include <fstream>

#include "examples/support/png.hpp"
#include "flowmatch/data/prefetch.hpp"
#include "tests/support/test.hpp"

namespace fs = std::filesystem;

namespace {

/// A picture 3 x 2 whose first pixel is `value`; grey unless coloured.
void put(const fs::path& path, std::uint8_t value, bool coloured = false, std::int64_t width = 3) {
  support::Picture picture{width, 2,
                           std::vector<std::uint8_t>(static_cast<std::size_t>(6 * width))};
  picture.rgb[0] = value;
  picture.rgb[1] = coloured ? 0 : value;
  picture.rgb[2] = value;
  support::write_png(path, picture);
}

/// Class "b" of 10, 11, 12 and class "a" of 20, 21; things that are none beside them.
void fill(const fs::path& folder) {
  for (const int i : {2, 0, 1}) {
    put(folder / "b" / (std::to_string(i) + ".png"), static_cast<std::uint8_t>(10 + i));
  }
  put(folder / "a" / "y.png", 21);
  put(folder / "a" / "x.png", 20);
  std::ofstream(folder / "a" / "notes.txt") << "no image";
  std::ofstream(folder / "readme.png") << "in no class";
}

}  // namespace

TEST_CASE("image_folder: sub-folders are classes and all is sorted") {
  const TemporaryFolder folder;
  fill(folder.path());
  const support::ImageFolder images = support::list_images(folder.path());
  CHECK(images.classes == std::vector<std::string>{"a", "b"});
  CHECK(at::equal(images.labels, torch::tensor({0, 0, 1, 1, 1})));
  CHECK(images.files[0] == folder.path() / "a" / "x.png");
  CHECK(images.files[4] == folder.path() / "b" / "2.png");
  CHECK(images.channels == 3);
  CHECK(images.height == 2);
  CHECK(images.width == 3);
  const at::Tensor read = support::read_images(images, torch::tensor({4, 1}));
  CHECK(read.sizes() == at::IntArrayRef{2, 3, 2, 3});
  CHECK(read[0][0][0][0].item<int>() == 12);
  CHECK(read[1][2][0][0].item<int>() == 21);
  CHECK(read.sum().item<int>() == 3 * (12 + 21));
}

TEST_CASE("image_folder: what is hidden is passed over, and letters of any case are read") {
  const TemporaryFolder folder;
  fill(folder.path());
  put(folder.path() / ".ipynb_checkpoints" / "0-checkpoint.png", 99);
  put(folder.path() / "a" / ".ipynb_checkpoints" / "x-checkpoint.png", 99);
  std::ofstream(folder.path() / "a" / "._x.png") << "macOS keeps notes here";
  std::ofstream(folder.path() / "a" / ".png") << "a name without an extension";
  fs::create_directory(folder.path() / "a" / "folder.png");
  put(folder.path() / "c" / "0.PNG", 30);
  put(folder.path() / "c" / "1.Png", 31);
  const support::ImageFolder images = support::list_images(folder.path());
  CHECK(images.classes == std::vector<std::string>{"a", "b", "c"});
  CHECK(at::equal(images.labels, torch::tensor({0, 0, 1, 1, 1, 2, 2})));
  CHECK(images.files[5] == folder.path() / "c" / "0.PNG");
  const at::Tensor first = support::read_images(images, torch::arange(7)).flatten(1).select(1, 0);
  CHECK(at::equal(first, torch::tensor({20, 21, 10, 11, 12, 30, 31}, at::kByte)));

  const TemporaryFolder hidden;  // its own name may begin with a dot
  fill(hidden.path() / ".data");
  CHECK(support::list_images(hidden.path() / ".data").files.size() == 5);
}

TEST_CASE("image_folder: batches come in the seed's order and restart anywhere") {
  const TemporaryFolder folder;
  fill(folder.path());
  const auto images = support::list_images(folder.path(), 1);
  const auto make = [&](std::uint64_t seed) {
    return support::image_batches(images, 2, {.seed = seed, .last_batch = fm::LastBatch::keep});
  };
  const auto rest = [](auto& source) {
    std::vector<at::Tensor> parts;
    while (const auto batch = source.next()) {
      CHECK(batch->x_1.sizes().slice(1) == at::IntArrayRef{1, 2, 3});
      const at::Tensor values =
          ((batch->x_1.select(3, 0).select(2, 0).flatten() + 1) * 127.5).round();
      CHECK(at::equal(values < 15, batch->condition == 1));
      parts.push_back(values);
    }
    return at::cat(parts);
  };
  auto plain = make(1);
  static_assert(fm::RestartableSource<decltype(plain)>);
  CHECK(plain.batches_per_epoch() == 3);
  plain.start_epoch(1);
  const at::Tensor epoch = rest(plain);
  CHECK(at::equal(std::get<0>(epoch.sort()), torch::tensor({10.0F, 11.0F, 12.0F, 20.0F, 21.0F})));
  fm::Prefetch ahead(make(1));
  ahead.start_epoch(1);
  CHECK(at::equal(rest(ahead), epoch));
  ahead.start_epoch(1, 2);
  CHECK(at::equal(rest(ahead), epoch.slice(0, 4)));
  plain.start_epoch(2);
  CHECK_FALSE(at::equal(rest(plain), epoch));
}

TEST_CASE("image_folder: the fingerprint tells names and seeds apart") {
  const TemporaryFolder folder;
  fill(folder.path());
  const auto print = [&](std::uint64_t seed) {
    return support::image_batches(support::list_images(folder.path()), 2, {.seed = seed})
        .fingerprint();
  };
  const std::string before = print(1);
  CHECK(print(1) == before);
  CHECK(print(2) != before);
  fs::rename(folder.path() / "a" / "x.png", folder.path() / "a" / "w.png");
  CHECK(print(1) != before);
}

TEST_CASE("image_folder: images that do not fit are data errors that name the file") {
  const TemporaryFolder folder;
  fill(folder.path());
  const auto refused = [&](const fs::path& file, std::int64_t channels, const std::string& part) {
    const auto images = support::list_images(folder.path(), channels);
    const auto read = [&] { support::read_images(images, torch::arange(5)); };
    require_error<fm::DataError>(read, part);
    require_error<fm::DataError>(read, file.string());
    fm::Prefetch ahead(support::image_batches(images, 5));
    ahead.start_epoch(0);
    require_error<fm::DataError>([&] { ahead.next(); }, file.string());
  };
  const fs::path file = folder.path() / "b" / "1.png";
  put(file, 11, false, 4);
  refused(file, 3, "has 4 x 2 pixels, x.png has 3 x 2");
  put(file, 11, true);
  refused(file, 1, "has colours among grey images");
  CHECK_NOTHROW(support::read_images(support::list_images(folder.path(), 3), torch::arange(5)));
  std::ofstream(file, std::ios::trunc) << "no PNG";
  refused(file, 3, "cannot read");
}

TEST_CASE("image_folder: folders without images and other channels are refused") {
  const TemporaryFolder folder;
  require_error<fm::DataError>([&] { support::list_images(folder.path()); }, "holds no images");
  require_error<fm::DataError>([&] { support::list_images(folder.path() / "none"); },
                               "cannot read the folder");
  require_error<fm::OptionError>([&] { support::list_images(folder.path(), 2); }, "2 channels");
  fill(folder.path());
  fs::create_directory(folder.path() / "photos");
  std::ofstream(folder.path() / "photos" / "0.jpg") << "no PNG";
  require_error<fm::DataError>([&] { support::list_images(folder.path()); },
                               (folder.path() / "photos").string() + " holds no PNG image");
}

TEST_CASE("image_folder: links that lead in a circle are no folders") {
  const TemporaryFolder folder;
  fill(folder.path());
  fs::create_symlink("loop", folder.path() / "loop");
  CHECK(support::list_images(folder.path()).classes == std::vector<std::string>{"a", "b"});
  fs::create_symlink("loop.png", folder.path() / "b" / "loop.png");
  const support::ImageFolder images = support::list_images(folder.path());
  require_error<fm::DataError>([&] { support::read_images(images, torch::tensor({5})); },
                               "loop.png");
}
