// Any bytes as the pickle of a state_dict: refused with a DataError, or rewritten to what stays as
// it is when rewritten once more.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "flowmatch/io/python_pickle.hpp"
#include "tests/fuzz/require.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string plain;
  try {
    plain = flowmatch::plain_pickle({reinterpret_cast<const char*>(data), size});
  } catch (const flowmatch::DataError&) {
    return 0;
  }
  require(plain.size() <= size, "it does not grow");
  require(flowmatch::plain_pickle(plain) == plain, "it stays as it is");
  return 0;
}
