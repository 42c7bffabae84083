#include "flowmatch/io/mapped_npy.hpp"

#include <unistd.h>

#include <fstream>
#include <string>

#include "flowmatch/data/tensor_batches.hpp"
#include "flowmatch/io/npy.hpp"
#include "tests/support/test.hpp"

namespace fs = std::filesystem;

namespace {

void put(const fs::path& path, const std::string& header, const std::string& data) {
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(header.size() & 0xFFU);
  bytes += static_cast<char>(header.size() >> 8U);
  std::ofstream(path, std::ios::binary) << bytes << header << data;
}

std::string header(const std::string& descr, const std::string& shape, const char* order = "False",
                   std::size_t end = 128) {
  std::string text =
      "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }";
  text.resize(end - 11, ' ');
  return text + '\n';
}

/// Memory of this process that is in use, in MiB.
double resident() {
  std::ifstream statm("/proc/self/statm");
  double whole = 0, pages = 0;
  statm >> whole >> pages;
  return pages * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1048576;
}

}  // namespace

TEST_CASE("mapped_npy: a mapped file has the values of a read one") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a.npy";
  for (const auto dtype : {torch::kFloat, torch::kDouble, torch::kByte, torch::kLong}) {
    for (const auto& shape :
         std::vector<std::vector<std::int64_t>>{{}, {5}, {0}, {3, 0}, {2, 3, 4}}) {
      fm::save_npy(path, (torch::rand(shape) * 255).to(dtype));
      const at::Tensor mapped = fm::map_npy(path);
      CHECK(mapped.scalar_type() == dtype);
      CHECK(mapped.sizes() == at::IntArrayRef(shape));
      CHECK(at::equal(mapped, fm::load_npy(path)));
    }
  }
}

TEST_CASE("mapped_npy: Fortran order is a transposed view of the file") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a.npy";
  put(path, header("|u1", "(2, 3)", "True"), "abcdef");
  const at::Tensor mapped = fm::map_npy(path);
  CHECK(at::equal(mapped, torch::tensor({{97, 99, 101}, {98, 100, 102}}, torch::kByte)));
  CHECK(mapped.strides() == at::IntArrayRef{1, 2});
  CHECK(at::equal(mapped, fm::load_npy(path)));
}

TEST_CASE("mapped_npy: the mapping outlives the file's name and the first tensor") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a.npy";
  fm::save_npy(path, torch::arange(6, torch::kFloat).view({2, 3}));
  at::Tensor row = fm::map_npy(path)[1];
  fs::remove(path);
  CHECK(at::equal(row, torch::tensor({3.0F, 4.0F, 5.0F})));
}

TEST_CASE("mapped_npy: writing to the tensor leaves the file as it is") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a.npy";
  fm::save_npy(path, torch::zeros({4}));
  at::Tensor mapped = fm::map_npy(path);
  mapped.fill_(1);
  CHECK(at::equal(mapped, torch::ones({4})));
  CHECK(at::equal(fm::load_npy(path), torch::zeros({4})));
}

TEST_CASE("mapped_npy: files that cannot be used are data errors that name them") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a.npy";
  const auto refused = [&](const std::string& part) {
    require_error<fm::DataError>([&] { fm::map_npy(path); }, part);
    require_error<fm::DataError>([&] { fm::map_npy(path); }, "a.npy");
  };
  refused("cannot read");
  put(path, header(">f4", "(2,)"), std::string(8, '\0'));
  refused("its values are big-endian");
  put(path, header("<f16", "(1,)"), std::string(16, '\0'));
  refused("its type '<f16' is none of");
  put(path, header("|b1", "(2,)"), "\x01\x02");
  refused("values other than 0 and 1");
  put(path, header("<f4", "(1000000000000,)"), std::string(8, '\0'));
  refused("declares 4000000000000 bytes of data, it holds 8");
  put(path, header("<f4", "(2,)", "False", 131), std::string(8, '\0'));
  refused("not aligned");
  put(path, header("|u1", "(2,)", "False", 131), "ab");
  CHECK(at::equal(fm::map_npy(path), torch::tensor({97, 98}, torch::kByte)));
  std::ofstream(path, std::ios::trunc).close();
  refused("magic bytes");
  fs::remove(path);
  fs::create_directory(path);
  refused("cannot read");
}

TEST_CASE("mapped_npy: batches of a large file need memory for themselves alone") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "large.npy";
  constexpr std::int64_t samples = 65536, bytes = 4096;  // 256 MiB, sparse
  put(path, header("|u1", "(65536, 4096)"), "");
  fs::resize_file(path, 128 + samples * bytes);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(128 + 40000 * bytes);
    file.put('\x07');
  }
  const double before = resident();
  const at::Tensor mapped = fm::map_npy(path);
  CHECK(mapped.sizes() == at::IntArrayRef{samples, bytes});
  CHECK(mapped[40000][0].item<int>() == 7);
  fm::TensorBatches batches(mapped, 64, {.seed = 1});
  batches.start_epoch(0);
  for (int i = 0; i < 4; ++i) {
    const auto batch = batches.next();
    REQUIRE(batch.has_value());
    CHECK(batch->x_1.sizes() == at::IntArrayRef{64, bytes});
  }
  const double grown = resident() - before;
  INFO("grown by " << grown << " MiB");
  CHECK(grown < 64);
}

TEST_CASE("mapped_npy: a file may be larger than memory") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "huge.npy";
  constexpr std::int64_t side = 1048576;  // 1 TiB, sparse
  put(path, header("|u1", "(1048576, 1048576)"), "");
  std::error_code error;
  fs::resize_file(path, 128 + side * side, error);
  if (error) {
    WARN("no sparse file of 1 TiB here: " << error.message());
    return;
  }
  const at::Tensor mapped = fm::map_npy(path);
  CHECK(mapped.sizes() == at::IntArrayRef{side, side});
  CHECK(mapped[side - 1][side - 1].item<int>() == 0);
}
