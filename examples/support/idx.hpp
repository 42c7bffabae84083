#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "flowmatch/core/error.hpp"

namespace support {

/// An array in the IDX format of the MNIST family (LeCun, Cortes & Burges 1998): two zero bytes, a
/// type byte, the number of dimensions, each dimension as a big-endian 32-bit number, then the
/// values. Only unsigned bytes (type 8) are read.
struct Idx {
  std::vector<std::int64_t> shape;
  std::span<const std::byte> values;  ///< a view of the bytes that were given
};

/// Reads an IDX file from memory. Every count is checked against the bytes that are there before it
/// is used, and nothing is allocated for the values. `name` appears in messages. Throws DataError
/// for anything that does not fit.
inline Idx read_idx(std::span<const std::byte> bytes, const std::string& name) {
  const auto bad = [&](const std::string& what) {
    return flowmatch::DataError(name + " is not a usable IDX file: " + what +
                                "; download it again");
  };
  const auto byte = [&](std::size_t i) { return std::to_integer<std::uint32_t>(bytes[i]); };
  if (bytes.size() < 4)
    throw bad("it has " + std::to_string(bytes.size()) + " bytes, less than a header");
  if (byte(0) != 0 || byte(1) != 0)
    throw bad("its magic number does not begin with two zero bytes");
  if (byte(2) != 8)
    throw bad("its values are of type " + std::to_string(byte(2)) +
              ", only unsigned bytes (8) are read");
  const std::size_t dimensions = byte(3);
  if (dimensions == 0 || dimensions > 8)
    throw bad("it has " + std::to_string(dimensions) + " dimensions");
  const std::size_t header = 4 + 4 * dimensions;
  if (bytes.size() < header) throw bad("it ends within its header");

  Idx idx;
  std::uint64_t count = 1;
  for (std::size_t d = 0; d < dimensions; ++d) {
    const std::size_t i = 4 + 4 * d;
    const std::uint32_t size =
        byte(i) << 24U | byte(i + 1) << 16U | byte(i + 2) << 8U | byte(i + 3);
    idx.shape.push_back(size);
    // Larger than any file: stop before the product overflows.
    if (size != 0 && count > std::numeric_limits<std::uint64_t>::max() / size)
      throw bad("its dimensions overflow");
    count *= size;
  }
  if (count != bytes.size() - header) {
    throw bad("its header declares " + std::to_string(count) + " values, it holds " +
              std::to_string(bytes.size() - header));
  }
  idx.values = bytes.subspan(header);
  return idx;
}

}  // namespace support
