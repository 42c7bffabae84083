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
