#pragma once

#include <c10/util/Exception.h>
#include <caffe2/serialize/inline_container.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <map>
#include <ostream>
#include <sstream>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/io/json.hpp"
#include "flowmatch/io/pickle.hpp"
#include "flowmatch/io/python_tensors.hpp"
#include "flowmatch/io/read_file.hpp"
#include "flowmatch/io/tensor_values.hpp"
#include "flowmatch/io/write_file.hpp"

/// Weights in Python's .pt files: what `torch.save(module.state_dict(), path)` writes and
/// `torch.load(path, weights_only=True)` reads.

namespace flowmatch { inline namespace v0 {

namespace detail {

/// A dict of Python, as far as it holds weights.
class PythonDict {
 public:
  PythonDict(PythonTensors& tensors, std::uint32_t value) : tensors_(&tensors) {
    const PickleNode& node = tensors.node(value);
    if (node.kind == PickleNode::Kind::object && !tensors.is_tensor(value)) {
      throw DataError(
          "it holds a '" + tensors.maker(value) +
          "'; save its state_dict() in Python, or name the part that holds the weights");
    }
    if (node.kind != PickleNode::Kind::dict) {
      throw DataError(
          "it holds no dict of tensors; save a state_dict(), or name the part that "
          "holds the weights");
    }
    for (std::size_t i = 0; i + 1 < node.items.size(); i += 2) {
      const PickleNode& key = tensors.node(node.items[i]);
      if (key.kind == PickleNode::Kind::text) {
        put(key.text, key.kind, node.items[i + 1]);
      } else if (key.kind == PickleNode::Kind::integer) {
        put(std::to_string(key.integer), key.kind, node.items[i + 1]);
      } else if (tensors.holds_tensors(node.items[i + 1])) {
        throw DataError("it holds a tensor whose name is no text; rename it in Python");
      }
    }
  }
  /// Those of `part`, which names a member, or one of a member's ("state/model").
  PythonDict part(const std::string& part) const {
    const auto whole = index_.find(part);
    if (whole != index_.end()) return {*tensors_, entries_[whole->second].second};
    const std::size_t slash = part.find('/');
    const auto first = index_.find(part.substr(0, slash));
    if (slash == std::string::npos || first == index_.end())
      throw DataError("it has no part '" + part + "'" + names());
    return PythonDict(*tensors_, entries_[first->second].second).part(part.substr(slash + 1));
  }
  StateDict tensors() const {
    StateDict state;
    for (const auto& [name, value] : entries_) {
      if (tensors_->is_tensor(value)) {
        try {
          state.insert(name, tensors_->tensor(value));
        } catch (const DataError& error) {
          throw DataError("'" + name + "' " + error.what());
        }
      } else if (tensors_->holds_tensors(value)) {
        throw DataError("'" + name + "' is no tensor; name the part that holds the weights" +
                        names());
      }
    }
    if (state.empty() && !entries_.empty()) throw DataError("it holds no tensors" + names());
    return state;
  }

 private:
  void put(const std::string& name, PickleNode::Kind kind, std::uint32_t value) {
    const auto [known, is_new] = index_.emplace(name, entries_.size());
    if (is_new) {
      entries_.emplace_back(name, value);
      kinds_.push_back(kind);
      return;
    }
    std::uint32_t& before = entries_[known->second].second;
    if (kinds_[known->second] != kind &&
        (tensors_->holds_tensors(before) || tensors_->holds_tensors(value))) {
      throw DataError("it holds tensors by the number " + name + " and by the text '" + name +
                      "', one name here; rename one in Python");
    }
    before = value;  // the last one counts, as in Python
  }
  std::string names() const {
    std::string text;
    for (std::size_t i = 0; i < entries_.size() && i < 10; ++i)
      text += (i == 0 ? "; it holds '" : ", '") + entries_[i].first + "'";
    return text + (entries_.size() > 10 ? ", …" : "");
  }

  PythonTensors* tensors_;
  std::vector<std::pair<std::string, std::uint32_t>> entries_{};
  std::vector<PickleNode::Kind> kinds_{};  // of their keys
  std::map<std::string, std::size_t> index_{};
};

}  // namespace detail

/// Writes a state dict as a file that Python's `torch.load(path, weights_only=True)` reads as well.
/// Tensors on other devices come from the CPU when they are read; of views only their own elements
/// are written; channels-last and transposed tensors stay so. Two names of one tensor share its
/// memory when they are read.
///
/// Under a temporary name first, so that an older file survives a failure. Throws CheckpointError
/// for tensors that such a file can't hold (sparse, quantised, undefined), names that are not
/// UTF-8, and where it can't be written.
inline void save_state_dict(const std::filesystem::path& path, const StateDict& state) {
  using Key = std::tuple<const void*, std::size_t, at::ScalarType>;
  std::map<Key, std::size_t> written;
  std::vector<at::Tensor> records;
  detail::PythonTensorsWriter pickle;
  for (const auto& [name, tensor] : state) {
    const bool known =
        has_plain_values(tensor) &&
        std::any_of(detail::python_dtypes.begin(), detail::python_dtypes.end(),
                    [&t = tensor](const auto& d) { return d.dtype == t.scalar_type(); });
    if (!known || !is_utf8(name)) {
      throw CheckpointError(
          "a .pt file can't hold '" + name + "'" +
          (tensor.defined() ? " of type " + tensor.toString() : ", which is undefined") +
          "; make it a dense tensor with a name in UTF-8, or leave it out");
    }
    const at::Tensor values = plain_values(tensor);
    const Key key(values.const_data_ptr(), values.nbytes(), values.scalar_type());
    const auto [record, is_new] = written.emplace(key, records.size());
    if (is_new || values.numel() == 0) {
      record->second = records.size();
      records.push_back(values);
    }
    pickle.add(name, values, record->second);
  }
  const std::string text = std::move(pickle).end();
  write_file<CheckpointError>(path, [&](std::ostream& file) {
    // A failure shows in the stream: LibTorch's writer would end the program in its destructor.
    caffe2::serialize::PyTorchStreamWriter writer([&](const void* bytes, std::size_t n) {
      file.write(static_cast<const char*>(bytes), static_cast<std::streamsize>(n));
      return n;
    });
    writer.writeRecord("data.pkl", text.data(), text.size());
    writer.writeRecord("byteorder", "little", 6);
    for (std::size_t i = 0; i < records.size(); ++i)
      writer.writeRecord("data/" + std::to_string(i), records[i].const_data_ptr(),
                         records[i].nbytes());
    writer.writeEndOfFile();
  });
}

/// Reads a file of `save_state_dict`, or one that Python's `torch.save(module.state_dict(), path)`
/// wrote, onto the CPU. `part`: of a dict of several things, such as {"model": …, "epoch": 3}, the
/// one that holds the weights; "state/model" is the model of {"state": {"model": …}}. Plain values
/// beside the tensors are passed over. Tensors that share memory in Python share it here.
///
/// Nothing of the file is run. Throws CheckpointError where it is missing or damaged, and for what
/// holds no dict of tensors: whole modules, sparse and quantised tensors, torch.save's old format.
inline StateDict read_state_dict(const std::filesystem::path& path, const std::string& part = "") {
  std::string bytes = read_file<CheckpointError>(path);
  if (bytes.size() > 1 && bytes[0] == '\x80' && bytes[1] <= 5) {
    throw CheckpointError(path.string() +
                          " is a bare pickle (torch.save's old format is one); load it in Python "
                          "and torch.save its state_dict() again");
  }
  std::istringstream stream(std::move(bytes));
  const auto damaged = [&](const std::string& why) {
    return CheckpointError(path.string() + " is damaged or not a file of weights (" + why +
                           "); restore it from a copy, or write it again");
  };
  try {
    // Not torch::jit::pickle_load, which reads beyond the end of a file that is cut.
    caffe2::serialize::PyTorchStreamReader file(&stream);
    const auto text = [&](const std::string& name) {
      const auto [data, size] = file.getRecord(name);
      return std::string(static_cast<const char*>(data.get()), size);
    };
    const Pickle pickle = parse_pickle(text("data.pkl"));
    if (file.hasRecord("byteorder") && text("byteorder") != "little")
      throw DataError("it was written on a big-endian machine");
    detail::PythonTensors tensors(pickle, [&](const std::string& name) {
      auto [data, size] = file.getRecord("data/" + name);
      return std::make_pair(std::move(data), size);
    });
    const detail::PythonDict all(tensors, pickle.root);
    return (part.empty() ? all : all.part(part)).tensors();
  } catch (const DataError& error) {
    throw CheckpointError(path.string() +
                          " is not a file of weights that can be read: " + error.what());
  } catch (const c10::Error& error) {
    throw damaged(error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw damaged(error.what());
  }
}

}}  // namespace flowmatch
