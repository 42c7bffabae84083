#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "examples/fashion_mnist/unet.hpp"
#include "flowmatch/model/name_map.hpp"

namespace fashion_mnist {

/// From the names of the same network in Python (tests/benchmark/unet.py) to the UNet's.
inline flowmatch::NameMap from_python_names(const UNetOptions& options) {
  std::vector<flowmatch::NameMap::Pair> pairs = {
      {"ci", "first"},   {"ce", "class_embedding"}, {"em.0", "time_norm"}, {"em.2", "time1"},
      {"em.4", "time2"}, {"co.0", "last.norm"},     {"co.2", "last.conv"}};
  const auto block = [&](const std::string& theirs, const std::string& ours) {
    pairs.insert(pairs.end(), {{theirs + ".ep", ours + ".scale_shift"},
                               {theirs + ".c1.0", ours + ".conv1.norm"},
                               {theirs + ".c1.2", ours + ".conv1.conv"},
                               {theirs + ".c2.0", ours + ".conv2.norm"},
                               {theirs + ".c2.2", ours + ".conv2.conv"},
                               {theirs + ".idc", ours + ".shortcut"}});
  };
  block("mid", "middle");
  const std::size_t levels = options.widths.size();
  for (std::size_t level = 0; level < levels; ++level) {
    const std::string here = std::to_string(level);
    const std::string from_below = std::to_string(levels - 1 - level);  // they count from below
    for (std::int64_t b = 0; b <= options.blocks; ++b) {
      const std::string k = std::to_string(b);
      if (b < options.blocks) block("d." + here + "." + k, "down" + here + "_" + k);
      block("u." + from_below + "." + k, "up" + here + "_" + k);
    }
    pairs.emplace_back("dn." + here, "shrink" + here);
    pairs.emplace_back("up." + from_below + ".1", "grow" + here);
  }
  return flowmatch::NameMap(std::move(pairs));
}

}  // namespace fashion_mnist
