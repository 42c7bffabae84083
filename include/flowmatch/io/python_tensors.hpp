#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/Storage.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/io/element_count.hpp"
#include "flowmatch/io/pickle.hpp"
#include "flowmatch/io/tensor_values.hpp"

/// Tensors as Python's torch.save describes them in its pickle (torch/_utils.py, _rebuild_tensor_v2
/// and its relatives): a storage, which is a record of the file, and an offset, sizes and strides.

namespace flowmatch { inline namespace v0 { namespace detail {

/// A dtype's names in Python: of its class of storages, where it has one, and its own.
struct PythonDtype {
  at::ScalarType dtype;
  std::string_view storage;
  std::string_view name;
};
inline constexpr std::array<PythonDtype, 21> python_dtypes{{
    {at::kFloat, "FloatStorage", "float32"},
    {at::kDouble, "DoubleStorage", "float64"},
    {at::kHalf, "HalfStorage", "float16"},
    {at::kBFloat16, "BFloat16Storage", "bfloat16"},
    {at::kLong, "LongStorage", "int64"},
    {at::kInt, "IntStorage", "int32"},
    {at::kShort, "ShortStorage", "int16"},
    {at::kChar, "CharStorage", "int8"},
    {at::kByte, "ByteStorage", "uint8"},
    {at::kBool, "BoolStorage", "bool"},
    {at::kComplexFloat, "ComplexFloatStorage", "complex64"},
    {at::kComplexDouble, "ComplexDoubleStorage", "complex128"},
    {at::kComplexHalf, "", "complex32"},
    {at::kUInt16, "", "uint16"},
    {at::kUInt32, "", "uint32"},
    {at::kUInt64, "", "uint64"},
    {at::kFloat8_e4m3fn, "", "float8_e4m3fn"},
    {at::kFloat8_e5m2, "", "float8_e5m2"},
    {at::kFloat8_e8m0fnu, "", "float8_e8m0fnu"},
    {at::kFloat8_e4m3fnuz, "", "float8_e4m3fnuz"},
    {at::kFloat8_e5m2fnuz, "", "float8_e5m2fnuz"},
}};

/// Whether the elements of sizes and strides, from `offset` on, lie within `room` elements.
inline bool lies_within(at::IntArrayRef sizes, at::IntArrayRef strides, std::int64_t offset,
                        std::int64_t room) {
  if (sizes.size() != strides.size() || offset < 0 || !element_count(sizes)) return false;
  if (std::find(sizes.begin(), sizes.end(), 0) != sizes.end()) return true;
  std::int64_t last = offset;
  for (std::size_t d = 0; d < sizes.size(); ++d) {
    const std::int64_t steps = sizes[d] - 1;
    if (strides[d] < 0 || (steps > 0 && strides[d] > (room - last) / steps)) return false;
    last += steps * strides[d];
  }
  return last < room;
}

/// Makes the tensors that a pickle describes. `record` gives the bytes of a storage by its name.
/// Throws DataError for what is no tensor, or one that is not supported.
class PythonTensors {
 public:
  using Record = std::function<std::pair<at::DataPtr, std::size_t>(const std::string&)>;

  PythonTensors(const Pickle& pickle, Record record)
      : pickle_(&pickle), record_(std::move(record)) {}

  const PickleNode& node(std::uint32_t i) const { return pickle_->nodes[i]; }

  /// Whether a tensor lies somewhere in this value.
  bool holds_tensors(std::uint32_t value) const {
    std::vector<bool> seen(pickle_->nodes.size());
    std::vector<std::uint32_t> open{value};
    while (!open.empty()) {
      const std::uint32_t i = open.back();
      open.pop_back();
      if (node(i).kind == Kind::persistent) return true;
      if (seen[i]) continue;
      seen[i] = true;
      open.insert(open.end(), node(i).items.begin(), node(i).items.end());
    }
    return false;
  }
  /// What is called to make an object: "torch._utils._rebuild_tensor_v2".
  std::string maker(std::uint32_t value) const {
    return node(value).kind == Kind::object ? node(node(value).items[0]).text : "";
  }
  bool is_tensor(std::uint32_t value) const {
    return maker(value).rfind("torch._utils._rebuild_", 0) == 0 ||
           maker(value) == "torch._tensor._rebuild_from_type_v2";
  }

  /// Detached, on the CPU. Those that are views of one storage share it, as in Python.
  at::Tensor tensor(std::uint32_t value) {
    std::string what = maker(value);
    std::uint32_t arguments = node(value).items.at(1);
    for (int i = 0; i < 8; ++i) {  // what lies around a tensor: Parameter, subclasses
      if (what.rfind("torch._utils._rebuild_parameter", 0) == 0) {
        const std::uint32_t inner = item(arguments, 0);
        what = maker(inner);
        if (what.empty()) break;
        arguments = node(inner).items[1];
      } else if (what == "torch._tensor._rebuild_from_type_v2") {
        what = node(item(arguments, 0)).text;
        arguments = item(arguments, 2);
      }
    }
    const bool v3 = what == "torch._utils._rebuild_tensor_v3";
    if (!v3 && what != "torch._utils._rebuild_tensor_v2" && what != "torch._utils._rebuild_tensor")
      throw DataError("is made by '" + what + "', which is not supported; save a dense copy of it");
    return resolved(v3, arguments);
  }

 private:
  using Kind = PickleNode::Kind;

  std::uint32_t item(std::uint32_t value, std::size_t i) const {
    if (i >= node(value).items.size()) throw DataError("lacks a part of its description");
    return node(value).items[i];
  }
  std::int64_t integer(std::uint32_t value) const {
    if (node(value).kind != Kind::integer) throw DataError("has a size that is no whole number");
    return node(value).integer;
  }
  std::vector<std::int64_t> integers(std::uint32_t value) const {
    std::vector<std::int64_t> all;
    for (const std::uint32_t i : node(value).items) all.push_back(integer(i));
    return all;
  }

  /// The tensor of (storage, offset, sizes, strides, requires_grad, hooks[, dtype][, metadata]).
  at::Tensor resolved(bool v3, std::uint32_t arguments) {
    const std::size_t count = node(arguments).items.size();
    const std::uint32_t identity = item(item(arguments, 0), 0);  // "storage", class, name, …
    std::string_view name = node(item(identity, 1)).text;
    name.remove_prefix(name.rfind('.') + 1);
    std::string dtype_name = v3 ? node(item(arguments, 6)).text : "";
    if (dtype_name.rfind("torch.", 0) == 0) dtype_name.erase(0, 6);
    const auto* const type =
        std::find_if(python_dtypes.begin(), python_dtypes.end(), [&](const PythonDtype& known) {
          // LibTorch's own writer makes up a class of storages for each dtype.
          return v3 ? known.name == dtype_name
                    : name == known.storage ||
                          name == std::string(toString(known.dtype)) + "Storage";
        });
    if (type == python_dtypes.end()) {
      throw DataError("is of the type '" + (v3 ? dtype_name : std::string(name)) +
                      "', which is not supported; convert it first");
    }
    const c10::Storage& storage = this->storage(node(item(identity, 2)).text);
    const auto width = static_cast<std::int64_t>(c10::elementSize(type->dtype));
    const std::int64_t offset = integer(item(arguments, 1));
    const std::vector<std::int64_t> sizes = integers(item(arguments, 2));
    const std::vector<std::int64_t> strides = integers(item(arguments, 3));
    if (!lies_within(sizes, strides, offset, static_cast<std::int64_t>(storage.nbytes()) / width))
      throw DataError("reaches beyond what the file holds of it");
    if (type->dtype == at::kBool &&
        !are_truth_values({static_cast<const char*>(storage.data()), storage.nbytes()})) {
      throw DataError("is of bools with values other than 0 and 1");
    }
    at::Tensor tensor = at::empty({0}, type->dtype).set_(storage, offset, sizes, strides);
    const std::size_t metadata = v3 ? 7 : 6;
    for (std::size_t i = 0;
         count > metadata && i + 1 < node(item(arguments, metadata)).items.size(); i += 2) {
      const std::uint32_t bits = item(arguments, metadata);
      if (node(item(bits, i + 1)).integer == 0) continue;
      if (node(item(bits, i)).text == "conj") tensor = tensor.conj().resolve_conj();
      if (node(item(bits, i)).text == "neg") tensor = -tensor;
    }
    return tensor;
  }
  const c10::Storage& storage(const std::string& name) {
    const auto found = storages_.find(name);
    if (found != storages_.end()) return found->second;
    auto [data, bytes] = record_(name);
    return storages_
        .emplace(name, c10::Storage(c10::Storage::use_byte_size_t(), bytes, std::move(data),
                                    /*allocator=*/nullptr, /*resizable=*/false))
        .first->second;
  }

  const Pickle* pickle_;
  Record record_;
  std::map<std::string, c10::Storage> storages_{};
};

/// Writes the pickle of a dict of tensors, which names only what torch.load(weights_only=True)
/// takes. `storages` numbers the records.
class PythonTensorsWriter {
 public:
  PythonTensorsWriter() : bytes_("\x80\x02}(") {}  // protocol 2; a dict, to which is added:

  /// `values` as `plain_values` gives them, which are record `storage` of the file.
  void add(const std::string& name, const at::Tensor& values, std::size_t storage) {
    const auto* const type =
        std::find_if(python_dtypes.begin(), python_dtypes.end(),
                     [&](const auto& known) { return known.dtype == values.scalar_type(); });
    const bool v3 = type->storage.empty();
    text(name);
    global("torch._utils\n", v3 ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2");
    bytes_ += "((";
    text("storage");
    v3 ? global("torch.storage\n", "UntypedStorage") : global("torch\n", type->storage);
    text(std::to_string(storage));
    text("cpu");
    integer(v3 ? static_cast<std::int64_t>(values.nbytes()) : values.numel());
    bytes_ += "tQ";  // TUPLE, BINPERSID
    integer(0);
    integers(values.sizes());
    integers(values.strides());
    bytes_ += '\x89';  // False: no gradient
    global("collections\n", "OrderedDict");
    bytes_ += ")R";
    if (v3) global("torch\n", type->name);
    bytes_ += "tR";
  }
  std::string end() && { return std::move(bytes_) + "u."; }

 private:
  void little_endian(std::uint64_t value, int n) {
    for (int i = 0; i < n; ++i) bytes_ += static_cast<char>(value >> 8 * i & 0xFFU);
  }
  void text(std::string_view value) {
    bytes_ += 'X';
    little_endian(value.size(), 4);
    bytes_ += value;
  }
  void integer(std::int64_t value) {  // BININT1, BININT, LONG1
    const auto bits = static_cast<std::uint64_t>(value);
    if (value >= 0 && value < 256) {
      bytes_ += 'K';
      little_endian(bits, 1);
    } else if (value >= 0 && value < 0x80000000LL) {
      bytes_ += 'J';
      little_endian(bits, 4);
    } else {
      bytes_ += "\x8a\x08";
      little_endian(bits, 8);
    }
  }
  void integers(at::IntArrayRef values) {
    bytes_ += '(';
    for (const std::int64_t value : values) integer(value);
    bytes_ += 't';
  }
  /// Named once, and fetched from the memo from then on.
  void global(const std::string& module, std::string_view name) {
    const std::string both = module + std::string(name);
    const auto [known, is_new] = memo_.emplace(both, static_cast<char>(memo_.size()));
    bytes_ += is_new ? "c" + both + "\nq" : "h";
    bytes_ += known->second;
  }

  std::string bytes_;
  std::map<std::string, char> memo_{};
};

}  // namespace detail

}}  // namespace flowmatch
