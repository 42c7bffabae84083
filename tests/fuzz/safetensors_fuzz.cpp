// Any bytes as a .safetensors file: refused with a CheckpointError, or a header that tells the
// truth and comes back from its own bytes.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "flowmatch/io/safetensors_header.hpp"
#include "tests/fuzz/require.hpp"

namespace {

namespace fm = flowmatch;

bool same(const fm::SafetensorsEntry& a, const fm::SafetensorsEntry& b) {
  return a.name == b.name && a.dtype == b.dtype && a.shape == b.shape && a.begin == b.begin &&
         a.end == b.end;
}

void try_file(std::string_view file) {
  fm::SafetensorsHeader header;
  try {
    header = fm::parse_safetensors_header(file, "input");
  } catch (const fm::CheckpointError&) {
    return;
  }
  std::uint64_t covered = 0;
  for (const fm::SafetensorsEntry& entry : header.tensors) {
    require(entry.begin == covered && entry.end >= entry.begin, "entries follow one another");
    covered = entry.end;
    const auto type =
        std::find_if(fm::detail::safetensors_types.begin(), fm::detail::safetensors_types.end(),
                     [&](const auto& known) { return known.name == entry.dtype; });
    require(type != fm::detail::safetensors_types.end(), "types are known");
    long double bytes = static_cast<long double>(type->bytes);
    for (const std::int64_t size : entry.shape) bytes *= static_cast<long double>(size);
    require(bytes == static_cast<long double>(entry.end - entry.begin), "shapes fill their bytes");
  }
  require(header.size + covered == file.size(), "the file is covered");

  const std::string values(file.substr(header.size));
  const std::string again = fm::safetensors_header_bytes(header);
  require(again.size() % 8 == 0, "values are aligned");
  const fm::SafetensorsHeader back = fm::parse_safetensors_header(again + values, "again");
  require(back.metadata == header.metadata, "metadata come back");
  require(back.tensors.size() == header.tensors.size() &&
              std::equal(back.tensors.begin(), back.tensors.end(), header.tensors.begin(), same),
          "tensors come back");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string file(reinterpret_cast<const char*>(data), size);
  try_file(file);
  // Once more with a length that ends behind the last brace, so that mutations of the text are not
  // all turned away at the length.
  const std::size_t brace = file.rfind('}');
  if (size > 8 && brace != std::string::npos && brace >= 8) {
    for (std::size_t i = 0; i < 8; ++i) {
      file[i] = static_cast<char>((brace - 7) >> 8U * i & 0xFFU);
    }
    try_file(file);
  }
  return 0;
}
