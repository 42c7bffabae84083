#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace flowmatch { inline namespace v0 {

namespace detail {

// The CRC of a reflected polynomial, by the slicing-by-8 method (Kounavis & Berry 2005).
template <std::uint32_t polynomial>
std::uint32_t reflected_crc(std::span<const std::byte> bytes, std::uint32_t crc) {
  static constexpr auto tables = [] {
    std::array<std::array<std::uint32_t, 256>, 8> table{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t c = i;
      for (int bit = 0; bit < 8; ++bit) c = (c & 1U) != 0 ? polynomial ^ (c >> 1U) : c >> 1U;
      table[0][i] = c;
    }
    for (std::size_t k = 1; k < 8; ++k) {
      for (std::size_t i = 0; i < 256; ++i) {
        table[k][i] = table[0][table[k - 1][i] & 0xFFU] ^ (table[k - 1][i] >> 8U);
      }
    }
    return table;
  }();
  const auto at = [&](std::size_t i) { return static_cast<std::uint32_t>(bytes[i]); };
  crc = ~crc;
  std::size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    const std::uint32_t low = crc ^ (at(i) | at(i + 1) << 8U | at(i + 2) << 16U | at(i + 3) << 24U);
    crc = tables[7][low & 0xFFU] ^ tables[6][(low >> 8U) & 0xFFU] ^
          tables[5][(low >> 16U) & 0xFFU] ^ tables[4][low >> 24U] ^ tables[3][at(i + 4)] ^
          tables[2][at(i + 5)] ^ tables[1][at(i + 6)] ^ tables[0][at(i + 7)];
  }
  for (; i < bytes.size(); ++i) crc = tables[0][(crc ^ at(i)) & 0xFFU] ^ (crc >> 8U);
  return ~crc;
}

}  // namespace detail

/// CRC-32 as in gzip, PNG and zip. To go on from earlier bytes, give their CRC as `crc`.
inline std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t crc = 0) {
  return detail::reflected_crc<0xEDB88320U>(bytes, crc);
}

/// The same of a text, from `crc` on.
inline std::uint32_t crc32(std::string_view text, std::uint32_t crc = 0) {
  return crc32(std::as_bytes(std::span(text)), crc);
}

/// CRC-32C as in iSCSI (RFC 3720) and TensorFlow's record files, from `crc` on as above.
inline std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t crc = 0) {
  return detail::reflected_crc<0x82F63B78U>(bytes, crc);
}
/// The same of a text, from `crc` on.
inline std::uint32_t crc32c(std::string_view text, std::uint32_t crc = 0) {
  return crc32c(std::as_bytes(std::span(text)), crc);
}

}}  // namespace flowmatch
