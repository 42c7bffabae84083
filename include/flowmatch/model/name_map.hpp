#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/types.hpp"

namespace flowmatch { inline namespace v0 {

/// Tensors' names in another program, by pairs of names (theirs, ours) of tensors or of modules,
/// whose tensors follow: NameMap{{"encoder.0", "first"}} makes "first.weight" of
/// "encoder.0.weight". The first pair that fits is taken; names that none fits stay. {"module", ""}
/// strips a prefix, {"", "module"} adds one.
class NameMap {
 public:
  /// A beginning of names, and what takes its place.
  using Pair = std::pair<std::string, std::string>;

  /// In the order in which they are tried.
  NameMap(std::initializer_list<Pair> pairs) : pairs_(pairs) {}
  /// The same of a list that a program makes.
  explicit NameMap(std::vector<Pair> pairs) : pairs_(std::move(pairs)) {}

  /// The new name.
  std::string operator()(const std::string& name) const {
    for (const auto& [from, to] : pairs_) {
      if (name.compare(0, from.size(), from) != 0) continue;
      std::string_view rest = std::string_view(name).substr(from.size());
      if (!from.empty() && !rest.empty()) {
        if (rest[0] != '.') continue;  // "conv" does not fit "conv2.weight"
        rest.remove_prefix(1);
      }
      const bool joined = !to.empty() && !rest.empty();
      return to + (joined ? "." : "") + std::string(rest);
    }
    return name;
  }

  /// The way back: ours to theirs.
  NameMap inverse() const {
    NameMap back = *this;
    for (auto& [from, to] : back.pairs_) from.swap(to);
    return back;
  }

 private:
  std::vector<Pair> pairs_;
};

/// The same tensors under the names `rename(name)`, by a NameMap or any function. Throws
/// CheckpointError where two get the same name.
template <class F>
StateDict renamed(const StateDict& state, F&& rename) {
  StateDict result;
  for (const auto& entry : state) {
    const std::string name = rename(entry.key());
    if (!result.insert(name, entry.value()).second) {
      throw CheckpointError("two tensors are both named '" + name + "', one of them '" +
                            entry.key() + "' before; check the map of names");
    }
  }
  return result;
}

}}  // namespace flowmatch
