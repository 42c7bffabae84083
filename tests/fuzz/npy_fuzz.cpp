// Any bytes as a .npy file: refused with a DataError, or a header whose shape fills the bytes.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "flowmatch/io/npy_header.hpp"
#include "tests/fuzz/require.hpp"

namespace {

namespace fm = flowmatch;

void try_file(std::string_view file) {
  try {
    const fm::NpyHeader header = fm::parse_npy_header(file, "input");
    require(header.type < fm::npy_types.size(), "the type is known");
    long double bytes = static_cast<long double>(fm::npy_types[header.type].bytes);
    for (const std::int64_t size : header.shape) {
      require(size >= 0, "sizes are counts");
      bytes *= static_cast<long double>(size);
    }
    require(bytes == static_cast<long double>(header.values.size()), "the shape fills the values");
    require(header.values.data() + header.values.size() == file.data() + file.size(),
            "the values end the file");
  } catch (const fm::DataError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string file(reinterpret_cast<const char*>(data), size);
  try_file(file);
  // Once more with a header that ends at the last line break, as NumPy's do.
  const std::size_t line = file.rfind('\n');
  if (size > 10 && line != std::string::npos && line >= 10) {
    file[8] = static_cast<char>((line - 9) & 0xFFU);
    file[9] = static_cast<char>((line - 9) >> 8U & 0xFFU);
    try_file(file);
  }
  return 0;
}
