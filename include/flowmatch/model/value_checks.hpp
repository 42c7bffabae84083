#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <c10/core/Storage.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "flowmatch/io/tensor_values.hpp"

namespace flowmatch { inline namespace v0 { namespace detail {

/// Whether tensors of `dtype` can hold these values: real numbers in complex ones, floats in floats
/// of any width but for overflow, whole numbers and bools exactly.
inline bool can_hold(at::ScalarType dtype, const at::Tensor& values) {
  if (values.scalar_type() == dtype || values.numel() == 0) return true;
  if (values.is_complex() && !c10::isComplexType(dtype)) return false;
  const auto wide = [](const at::Tensor& t) {
    return t.is_complex() ? at::view_as_real(t.resolve_conj().to(at::kComplexDouble))
                          : t.to(at::kDouble);
  };
  const at::Tensor converted = values.to(dtype);
  if (c10::isIntegralType(dtype, /*includeBool=*/true)) {
    // As floats for signs and fractions, as integers for the last digits.
    return at::equal(wide(values), wide(converted)) &&
           (values.is_floating_point() || at::equal(values.to(at::kLong), converted.to(at::kLong)));
  }
  const at::Tensor before = wide(values);
  const at::Tensor after = wide(values.is_complex()      ? converted
                                : converted.is_complex() ? at::real(converted)
                                                         : converted);
  return at::equal(before.isfinite(), after.isfinite()) &&
         at::equal(before.isnan(), after.isnan()) && !(before * after < 0).any().item<bool>();
}

/// Copies values into a tensor whose elements may share memory, which copy_ refuses: of a dimension
/// whose entries are one (stride 0), the first is written.
inline void copy_into(at::Tensor to, at::Tensor from) {
  for (std::int64_t d = 0; to.layout() == at::kStrided && d < to.dim(); ++d) {
    if (to.stride(d) != 0 || to.size(d) < 2) continue;
    to = to.narrow(d, 0, 1);
    from = from.narrow(d, 0, 1);
  }
  to.copy_(from);
}

inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = plain_values(a).contiguous();
  const at::Tensor y = plain_values(b).contiguous();
  return x.nbytes() == y.nbytes() &&
         (x.nbytes() == 0 || std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0);
}

/// Which tensors of a module lie in the same memory: tied weights, views of each other, expanded
/// ones.
class MemorySharing {
 public:
  void add(const std::string& name, const at::Tensor& tensor) {
    if (!has_plain_values(tensor) || tensor.numel() == 0) return;
    members_[tensor.storage().unsafeGetStorageImpl()].push_back({name, tensor});
  }
  /// Whether this tensor, of the module or not, lies in a member's memory.
  bool holds(const at::Tensor& tensor) const {
    return has_plain_values(tensor) && members_.count(tensor.storage().unsafeGetStorageImpl()) != 0;
  }
  /// Whether this one has all of its memory for itself, each element once.
  bool is_alone(const at::Tensor& tensor) const {
    if (!has_plain_values(tensor)) return false;
    if (tensor.numel() == 0) return true;
    return members_.at(tensor.storage().unsafeGetStorageImpl()).size() == 1 &&
           tensor.is_non_overlapping_and_dense() && tensor.nbytes() == tensor.storage().nbytes();
  }
  /// The names of tensors that would not have their values after all have been loaded, as they
  /// share memory with others that have different ones. `value_of(name)` gives what is to be loaded
  /// there, or an undefined tensor. Tried in a copy of the memory.
  template <class F>
  std::vector<std::string> conflicts(F&& value_of) const {
    std::vector<std::string> found;
    for (const auto& [storage, members] : members_) {
      if (members.size() == 1 && members[0].second.is_non_overlapping_and_dense()) continue;
      const at::Tensor& any = members[0].second;
      const at::Tensor memory =
          at::empty({0}, any.options().dtype(at::kByte)).set_(any.storage()).clone();
      std::vector<std::pair<at::Tensor, at::Tensor>> written;
      for (const auto& [name, tensor] : members) {
        const at::Tensor value = value_of(name);
        if (!value.defined()) {
          written.emplace_back();
          continue;
        }
        at::Tensor copy =
            at::empty({0}, tensor.options())
                .set_(memory.storage(), tensor.storage_offset(), tensor.sizes(), tensor.strides());
        at::Tensor stored = value.resolve_conj().resolve_neg();
        if (tensor.is_conj()) stored = at::conj_physical(stored);
        if (tensor.is_neg()) stored = -stored;
        copy_into(copy, stored);
        written.emplace_back(copy, stored.to(copy.options()));
      }
      for (std::size_t i = 0; i < members.size(); ++i) {
        if (written[i].first.defined() && !same_bits(written[i].first, written[i].second))
          found.push_back(members[i].first);
      }
    }
    return found;
  }

 private:
  std::map<const c10::StorageImpl*, std::vector<std::pair<std::string, at::Tensor>>> members_{};
};

}  // namespace detail

}}  // namespace flowmatch
