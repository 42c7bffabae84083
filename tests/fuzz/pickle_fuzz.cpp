// Any bytes as a pickle: refused with a DataError, or a tree whose indices lie in it.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "flowmatch/io/pickle.hpp"
#include "tests/fuzz/require.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using Kind = flowmatch::PickleNode::Kind;
  flowmatch::Pickle pickle;
  try {
    pickle = flowmatch::parse_pickle({reinterpret_cast<const char*>(data), size});
  } catch (const flowmatch::DataError&) {
    return 0;
  }
  require(pickle.nodes.size() <= size + 4, "a byte makes one node at most");
  require(pickle.root < pickle.nodes.size(), "the root is a node");
  std::size_t items = 0;
  for (const flowmatch::PickleNode& node : pickle.nodes) {
    for (const std::uint32_t item : node.items)
      require(item < pickle.nodes.size(), "items are nodes");
    items += node.items.size();
    if (node.kind == Kind::dict) require(node.items.size() % 2 == 0, "a dict holds pairs");
    if (node.kind == Kind::object) require(node.items.size() >= 2, "an object has arguments");
    if (node.kind == Kind::persistent)
      require(node.items.size() == 1, "a persistent has one identity");
    // A name's module and class may be one text.
    require(node.text.size() <= (node.kind == Kind::global ? 2 * size + 1 : size),
            "texts come from the pickle");
  }
  require(items <= 3 * size, "items come from the pickle");
  return 0;
}
