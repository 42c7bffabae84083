#include "examples/support/gzip.hpp"

#include <fstream>

#include "flowmatch/core/error.hpp"
#include "tests/support/test.hpp"
#include "tests/support_examples/bytes.hpp"

namespace {

Bytes sample_bytes(std::size_t n) {
  Bytes bytes(n);
  for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(i * i % 251);
  return bytes;
}

void gzip_refused(const Bytes& packed, const std::string& part, std::size_t limit = 1 << 20) {
  require_error<fm::DataError>([&] { support::gunzip(packed, limit, "data.gz"); }, part);
}

}  // namespace

TEST_CASE("gzip: unpacks what was packed") {
  for (const std::size_t n : {0U, 1U, 1000U, 300000U}) {
    const Bytes bytes = sample_bytes(n);
    REQUIRE((support::gunzip(gzip(bytes), n, "data.gz") == bytes));  // exactly the limit is allowed
  }
}

TEST_CASE("gzip: several members follow each other") {
  Bytes packed = gzip(sample_bytes(10));
  const Bytes second = gzip(sample_bytes(20));
  packed.insert(packed.end(), second.begin(), second.end());
  Bytes both = sample_bytes(10);
  const Bytes end = sample_bytes(20);
  both.insert(both.end(), end.begin(), end.end());
  REQUIRE((support::gunzip(packed, 30, "data.gz") == both));
  gzip_refused(packed, "more than the 29 bytes", 29);
}

TEST_CASE("gzip: a file cut anywhere is refused") {
  const Bytes whole = gzip(sample_bytes(500));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    gzip_refused(cut, "cut short");
  }
  Bytes packed = whole;  // the second member, too
  packed.insert(packed.end(), whole.begin(), whole.end() - 5);
  gzip_refused(packed, "cut short");
}

TEST_CASE("gzip: a changed byte is found by the checksum") {
  const Bytes whole = gzip(sample_bytes(500));
  for (std::size_t i = 10; i < whole.size(); i += 7) {
    Bytes damaged = whole;
    damaged[i] ^= std::byte{0x10};
    REQUIRE_THROWS_AS(support::gunzip(damaged, 1 << 20, "data.gz"), fm::DataError);
  }
  Bytes checksum = whole;
  checksum[whole.size() - 8] ^= std::byte{1};
  gzip_refused(checksum, "incorrect data check");
  Bytes length = whole;
  length[whole.size() - 4] ^= std::byte{1};
  gzip_refused(length, "incorrect length check");
}

TEST_CASE("gzip: junk after the end and junk altogether are told apart") {
  Bytes packed = gzip(sample_bytes(10));
  for (const std::byte b : bytes_of({'j', 'u', 'n', 'k'})) packed.push_back(b);
  gzip_refused(packed, "something else follows its end");
  gzip_refused(bytes_of({'j', 'u', 'n', 'k', 'j', 'u', 'n', 'k'}), "incorrect header check");
}

TEST_CASE("gzip: a small file that unpacks into much is stopped at the limit") {
  const Bytes bomb = gzip(Bytes(50 << 20));
  REQUIRE(bomb.size() < 100000);
  gzip_refused(bomb, "more than the 1000 bytes", 1000);
  gzip_refused(bomb, "data.gz cannot be unpacked", 1000);
}

TEST_CASE("gzip: read_bytes gives a file as it is") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "file";
  write_bytes(path, sample_bytes(100));
  REQUIRE((support::read_bytes(path, 100) == sample_bytes(100)));
  require_error<fm::DataError>([&] { support::read_bytes(path, 99); }, "has 100 bytes, more than");
}

TEST_CASE("gzip: read_bytes refuses missing files and folders") {
  const TemporaryFolder folder;
  require_error<fm::DataError>([&] { support::read_bytes(folder.path() / "none", 9); },
                               "there is no file");
  require_error<fm::DataError>([&] { support::read_bytes(folder.path(), 9); }, "there is no file");
}
