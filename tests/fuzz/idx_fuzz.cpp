// Any bytes as an IDX file: refused with a DataError, or a shape that fills the bytes.

#include <cstddef>
#include <cstdint>
#include <span>

#include "examples/support/idx.hpp"
#include "tests/fuzz/require.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const support::Idx idx = support::read_idx(bytes, "input");
    long double count = 1;
    for (const std::int64_t n : idx.shape) {
      require(n >= 0, "sizes are counts");
      count *= static_cast<long double>(n);
    }
    require(count == static_cast<long double>(idx.values.size()), "the shape fills the values");
    require(idx.values.data() + idx.values.size() == bytes.data() + bytes.size(),
            "the values end the file");
  } catch (const flowmatch::DataError&) {
  }
  return 0;
}
