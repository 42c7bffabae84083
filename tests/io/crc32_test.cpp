#include "flowmatch/io/crc32.hpp"

#include <string>
#include <vector>

#include "tests/support/test.hpp"

TEST_CASE("crc32: known values") {
  CHECK(fm::crc32("") == 0U);
  CHECK(fm::crc32("a") == 0xE8B7BE43U);
  CHECK(fm::crc32("123456789") == 0xCBF43926U);  // the check value of the catalogue of CRCs
  CHECK(fm::crc32("The quick brown fox jumps over the lazy dog") == 0x414FA339U);
  CHECK(fm::crc32(std::string(32, '\0')) == 0x190A55ADU);
  CHECK(fm::crc32(std::string(32, '\xff')) == 0xFF6CAB0BU);
  std::string all(256, '\0');
  for (std::size_t i = 0; i < 256; ++i) all[i] = static_cast<char>(i);
  CHECK(fm::crc32(all) == 0x29058C73U);
}

TEST_CASE("crc32: the Castagnoli polynomial gives the values of RFC 3720") {
  const auto bytes = [](int first, int step) {
    std::string text;
    for (int i = 0; i < 32; ++i) text += static_cast<char>(first + step * i);
    return text;
  };
  CHECK(fm::crc32c("") == 0U);
  CHECK(fm::crc32c("123456789") == 0xE3069283U);
  CHECK(fm::crc32c(bytes(0, 0)) == 0x8A9136AAU);  // the RFC prints the bytes in reverse order
  CHECK(fm::crc32c(bytes(255, 0)) == 0x62A8AB43U);
  CHECK(fm::crc32c(bytes(0, 1)) == 0x46DD794EU);
  CHECK(fm::crc32c(bytes(31, -1)) == 0x113FDB5CU);
  CHECK(fm::crc32c(bytes(16, 1), fm::crc32c(bytes(0, 1).substr(0, 16))) != fm::crc32c(bytes(0, 1)));
  CHECK(fm::crc32c(bytes(16, 1).substr(0, 16), fm::crc32c(bytes(0, 1).substr(0, 16))) ==
        0x46DD794EU);
  std::string command(48, '\0');  // a SCSI read command
  command[0] = '\x01';
  command[1] = '\xc0';
  command[16] = '\x14';
  command[22] = '\x04';
  command[27] = '\x14';
  command[31] = '\x18';
  command[32] = '\x28';
  command[40] = '\x02';
  CHECK(fm::crc32c(command) == 0xD9963A56U);
}

TEST_CASE("crc32: bytes and text agree") {
  const std::string text = "flow matching";
  CHECK(fm::crc32(std::as_bytes(std::span(text))) == fm::crc32(text));
}

TEST_CASE("crc32: going on from earlier bytes equals all at once") {
  std::string text;
  for (int i = 0; i < 61; ++i) text += static_cast<char>(i * 37 + 11);
  const std::string_view view = text;
  for (std::size_t cut = 0; cut <= view.size(); ++cut) {
    CHECK(fm::crc32(view.substr(cut), fm::crc32(view.substr(0, cut))) == fm::crc32(view));
  }
}

TEST_CASE("crc32: every change of one bit is seen") {
  std::string text(40, 'x');
  const std::uint32_t before = fm::crc32(text);
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      const char old = text[i];
      text[i] = static_cast<char>(old ^ (1 << bit));
      CHECK(fm::crc32(text) != before);
      text[i] = old;
    }
  }
}
