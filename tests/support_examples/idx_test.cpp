#include "examples/support/idx.hpp"

#include "tests/support/test.hpp"
#include "tests/support_examples/bytes.hpp"

namespace {

void idx_refused(const Bytes& bytes, const std::string& part) {
  require_error<fm::DataError>([&] { support::read_idx(bytes, "train-images"); }, part);
}

}  // namespace

TEST_CASE("idx: shape and values of a whole file") {
  Bytes bytes = idx_file({2, 1, 3}, 0);
  for (const std::byte b : bytes_of({1, 2, 3, 4, 5, 255})) bytes.push_back(b);
  const support::Idx idx = support::read_idx(bytes, "name");
  REQUIRE(idx.shape == std::vector<std::int64_t>{2, 1, 3});
  REQUIRE(idx.values.size() == 6);
  REQUIRE(idx.values[5] == std::byte{255});
  REQUIRE(idx.values.data() == bytes.data() + 16);  // a view; nothing is copied
}

TEST_CASE("idx: sizes are big-endian") {
  REQUIRE(support::read_idx(idx_file({258}, 258), "name").shape[0] == 258);
}

TEST_CASE("idx: an array without values is one") {
  REQUIRE(support::read_idx(idx_file({0, 28, 28}, 0), "name").values.empty());
}

TEST_CASE("idx: every message names the file and the remedy") {
  idx_refused({}, "train-images");
  idx_refused({}, "download it again");
}

TEST_CASE("idx: a wrong magic number is refused") {
  idx_refused(bytes_of({1, 0, 8, 1, 0, 0, 0, 0}), "two zero bytes");
  idx_refused(bytes_of({0, 1, 8, 1, 0, 0, 0, 0}), "two zero bytes");
  idx_refused(bytes_of({31, 139, 8, 0, 0, 0, 0, 0}), "two zero bytes");  // still gzipped
}

TEST_CASE("idx: other types of values are refused by their number") {
  idx_refused(bytes_of({0, 0, 13, 1, 0, 0, 0, 0}), "type 13");
}

TEST_CASE("idx: no dimensions and too many are refused") {
  idx_refused(idx_file({}, 0), "0 dimensions");
  idx_refused(bytes_of({0, 0, 8, 255}), "255 dimensions");
}

TEST_CASE("idx: a file cut anywhere is refused") {
  const Bytes whole = idx_file({2, 3}, 6);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    REQUIRE_THROWS_AS(support::read_idx(cut, "name"), fm::DataError);
  }
  idx_refused(bytes_of({0, 0, 8}), "3 bytes");
  idx_refused(idx_file({2, 3}, 5), "declares 6 values");
  idx_refused(idx_file({2, 3}, 5), "holds 5");
}

TEST_CASE("idx: bytes beyond the last value are refused") {
  idx_refused(idx_file({2, 3}, 7), "holds 7");
}

TEST_CASE("idx: huge declared sizes are refused before anything is allocated") {
  constexpr std::uint32_t most = 0xFFFFFFFFU;
  idx_refused(idx_file({most}, 10), "declares 4294967295 values");
  idx_refused(idx_file({most, most}, 10), "holds 10");
  idx_refused(idx_file({most, most, most}, 10), "overflow");
  // 2^16 five times: 2^80, whose low 64 bits are 0.
  idx_refused(idx_file({65536, 65536, 65536, 65536, 65536}, 0), "overflow");
}
