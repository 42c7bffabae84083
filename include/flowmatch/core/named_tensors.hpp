#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "flowmatch/core/error.hpp"

namespace flowmatch { inline namespace v0 {

/// Tensors by Python's names, "layer.0.weight", in the order in which they were added, as Python's
/// state_dict() has them. It is looped over and filled as a std::map is:
///
///     for (const auto& [name, tensor] : state) …
///     state["layer.0.weight"] = tensor;
///
/// A copy has entries of its own, whose tensors share their memory with the first one's, as every
/// copy of a tensor does. References and iterators stay valid until their entry is erased.
class StateDict {
 public:
  /// A name and its tensor, by structured bindings, by `first` and `second` as a std::map's, or by
  /// key() and value() as the items of LibTorch's named_parameters().
  struct Entry : std::pair<const std::string, at::Tensor> {
    using std::pair<const std::string, at::Tensor>::pair;
    /// @{ The name, and its tensor.
    const std::string& key() const noexcept { return first; }
    const at::Tensor& value() const noexcept { return second; }
    at::Tensor& value() noexcept { return second; }
    /// @}
  };
  /// @{ As a std::map has them.
  using key_type = std::string;
  using mapped_type = at::Tensor;
  using value_type = Entry;
  using iterator = std::list<Entry>::iterator;
  using const_iterator = std::list<Entry>::const_iterator;
  /// @}

  StateDict() = default;
  /// Of entries with the same name the first one stays, as in a std::map.
  StateDict(std::initializer_list<std::pair<std::string, at::Tensor>> entries) {
    for (const auto& [name, tensor] : entries) insert(name, tensor);
  }
  /// @{ A copy has entries of its own; what was moved from is empty.
  StateDict(const StateDict& other) {
    for (const auto& [name, tensor] : other) insert(name, tensor);
  }
  StateDict(StateDict&& other) noexcept { swap(other); }
  StateDict& operator=(StateDict other) noexcept {
    swap(other);
    return *this;
  }
  /// @}
  ~StateDict() = default;
  /// Exchanges all entries.
  void swap(StateDict& other) noexcept {
    entries_.swap(other.entries_);
    index_.swap(other.index_);
  }

  /// @{ As a std::map's: entries in their order, how many, and by name.
  iterator begin() noexcept { return entries_.begin(); }
  iterator end() noexcept { return entries_.end(); }
  const_iterator begin() const noexcept { return entries_.begin(); }
  const_iterator end() const noexcept { return entries_.end(); }
  std::size_t size() const noexcept { return entries_.size(); }
  bool empty() const noexcept { return entries_.empty(); }

  bool contains(std::string_view name) const { return index_.count(name) != 0; }
  iterator find(std::string_view name) {
    const auto found = index_.find(name);
    return found == index_.end() ? end() : found->second;
  }
  const_iterator find(std::string_view name) const {
    const auto found = index_.find(name);
    return found == index_.end() ? end() : const_iterator(found->second);
  }
  /// @}
  /// @{ The tensor of that name. Throws DataError where there is none.
  const at::Tensor& at(std::string_view name) const {
    const auto found = find(name);
    if (found == end()) throw missing(name);
    return found->second;
  }
  at::Tensor& at(std::string_view name) {
    const auto found = find(name);
    if (found == end()) throw missing(name);
    return found->second;
  }
  /// @}
  /// The tensor of that name; where there is none, an undefined one is added.
  at::Tensor& operator[](std::string_view name) {
    return insert(std::string(name), at::Tensor()).first->second;
  }

  /// @{ Adds an entry at the end, or leaves that of the same name as it is; says which.
  std::pair<iterator, bool> insert(std::string name, at::Tensor tensor) {
    const auto found = find(name);
    if (found != end()) return {found, false};
    entries_.emplace_back(std::move(name), std::move(tensor));
    const iterator added = std::prev(entries_.end());
    index_.emplace(added->first, added);
    return {added, true};
  }
  std::pair<iterator, bool> insert(std::pair<std::string, at::Tensor> entry) {
    return insert(std::move(entry.first), std::move(entry.second));
  }
  std::pair<iterator, bool> emplace(std::string name, at::Tensor tensor) {
    return insert(std::move(name), std::move(tensor));
  }
  /// @}
  /// Adds an entry at the end, or gives that of the same name this tensor; says which.
  std::pair<iterator, bool> insert_or_assign(std::string name, at::Tensor tensor) {
    const auto result = insert(std::move(name), tensor);
    result.first->second = std::move(tensor);
    return result;
  }
  /// How many entries went: 0 or 1.
  std::size_t erase(std::string_view name) {
    const auto found = index_.find(name);
    if (found == index_.end()) return 0;
    const iterator entry = found->second;
    index_.erase(found);  // first: its key lies in the entry
    entries_.erase(entry);
    return 1;
  }
  /// The entry after the one that goes.
  iterator erase(const_iterator entry) {
    index_.erase(entry->first);
    return entries_.erase(entry);
  }
  /// Erases all entries.
  void clear() noexcept {
    index_.clear();
    entries_.clear();
  }

 private:
  static DataError missing(std::string_view name) {
    return DataError("there is no tensor '" + std::string(name) +
                     "'; look at the names that there are, or ask contains() first");
  }

  std::list<Entry> entries_{};
  std::unordered_map<std::string_view, iterator> index_{};  // its keys lie in the entries
};

}}  // namespace flowmatch
