#pragma once

#include <ATen/core/ivalue.h>
#include <c10/util/Exception.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/serialization/pickler.h>
#include <torch/csrc/jit/serialization/unpickler.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <sstream>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/types.hpp"
#include "flowmatch/io/python_pickle.hpp"
#include "flowmatch/io/read_file.hpp"
#include "flowmatch/io/write_file.hpp"

/// Weights in Python's .pt files: what `torch.save(module.state_dict(), path)` writes and
/// `torch.load(path, weights_only=True)` reads.

namespace flowmatch { inline namespace v0 {

namespace detail {

/// The bytes of a .pt file. Not torch::jit::pickle_save, whose tag of the dict's type is code to
/// Python, so that torch.load refuses it unless told to trust the file.
inline std::string pickled(const StateDict& state) {
  std::string pickle;
  torch::jit::Pickler pickler([&](const char* bytes, std::size_t n) { pickle.append(bytes, n); },
                              nullptr, nullptr, nullptr, nullptr, /*tag_aggregates=*/false);
  pickler.protocol();
  c10::Dict<std::string, at::Tensor> dict;
  for (const auto& [name, tensor] : state) dict.insert(name, tensor);
  pickler.pushIValue(dict);
  pickler.stop();
  std::string file;
  caffe2::serialize::PyTorchStreamWriter writer([&](const void* bytes, std::size_t n) {
    file.append(static_cast<const char*>(bytes), n);
    return n;
  });
  writer.writeRecord("data.pkl", pickle.data(), pickle.size());
  std::size_t i = 0;
  for (const at::Tensor& tensor : pickler.tensorData()) {
    const torch::jit::WriteableTensorData values = torch::jit::getWriteableTensorData(tensor);
    writer.writeRecord("data/" + std::to_string(i++), values.data(), values.sizeInBytes());
  }
  writer.writeEndOfFile();
  return file;
}

/// Whether a tensor's elements lie within the first `bytes` of its storage.
inline bool lies_within(const at::Tensor& tensor, std::size_t bytes) {
  const auto room = static_cast<std::int64_t>(bytes / tensor.dtype().itemsize());
  std::int64_t last = tensor.storage_offset();
  for (std::int64_t d = 0; d < tensor.dim(); ++d) {
    const std::int64_t steps = tensor.size(d) - 1;
    if (steps == -1) return true;  // no elements
    if (last < 0 || steps < 0 || tensor.stride(d) < 0) return false;
    if (steps > 0 && tensor.stride(d) > (room - last) / steps) return false;
    last += steps * tensor.stride(d);
  }
  return last >= 0 && last < room;
}

/// The object (dict or OrderedDict) and nothing of its attributes; see `plain_pickle`.
inline c10::impl::GenericDict dict_of(const c10::IValue& value) {
  const c10::IValue object = value.isTuple() && value.toTupleRef().elements().size() == 2
                                 ? value.toTupleRef().elements()[0]
                                 : value;
  if (!object.isGenericDict()) throw DataError("it holds no dict of tensors");
  return object.toGenericDict();
}

inline StateDict read_state_dict(caffe2::serialize::PyTorchStreamReader& file,
                                 const std::string& part) {
  const auto [data, size] = file.getRecord("data.pkl");
  const std::string pickle = plain_pickle({static_cast<const char*>(data.get()), size});
  std::unordered_map<const void*, std::size_t> records;  // bytes by address
  std::size_t at = 0;
  torch::jit::Unpickler unpickler(
      [&](char* to, std::size_t n) {
        const std::size_t copied = pickle.copy(to, n, at);
        at += copied;
        return copied;
      },
      nullptr, nullptr,
      [&](const std::string& name) {
        auto record = file.getRecord("data/" + name);
        records[std::get<0>(record).get()] = std::get<1>(record);
        return std::move(std::get<0>(record));
      },
      c10::Device(c10::kCPU));
  unpickler.set_version(file.version());
  c10::impl::GenericDict dict = dict_of(unpickler.parse_ivalue());
  if (!part.empty()) {
    if (!dict.contains(part)) throw DataError("it has no part '" + part + "'");
    dict = dict_of(dict.at(part));
  }
  StateDict state;
  for (const auto& entry : dict) {
    const std::string& name = entry.key().toStringRef();
    if (!entry.value().isTensor())
      throw DataError("'" + name + "' is no tensor; name the part that holds the weights");
    const at::Tensor tensor = entry.value().toTensor().detach();
    // LibTorch believes the pickle how much the file holds of a tensor.
    const auto record = records.find(tensor.storage().data());
    if (!lies_within(tensor, record == records.end() ? 0 : record->second))
      throw DataError("'" + name + "' reaches beyond what the file holds of it");
    state.insert(name, tensor);
  }
  return state;
}

}  // namespace detail

/// Writes a state dict as a file that Python's `torch.load(path, weights_only=True)` reads as well.
/// Throws CheckpointError where the file can't be written.
inline void save_state_dict(const std::filesystem::path& path, const StateDict& state) {
  StateDict on_cpu;
  for (const auto& entry : state) on_cpu.insert(entry.key(), entry.value().cpu());
  const std::string bytes = detail::pickled(on_cpu);
  write_bytes<CheckpointError>(path, {bytes.data(), bytes.size()});
}

/// Reads a file of `save_state_dict`, or one that Python's `torch.save(module.state_dict(), path)`
/// wrote, onto the CPU. `part`: of a dict of several things, such as {"model": …, "epoch": 3}, the
/// one that holds the weights. float8 and uint16 to uint64, which LibTorch does not unpickle, need
/// `load_safetensors`. Throws CheckpointError where the file is missing, damaged or holds something
/// else.
inline StateDict read_state_dict(const std::filesystem::path& path, const std::string& part = "") {
  std::istringstream stream(read_file<CheckpointError>(path));
  const auto bad = [&](const std::string& why) {
    return CheckpointError(path.string() + " is damaged or not a file of weights (" + why +
                           "); restore it from a copy, or write it again");
  };
  try {
    // Not torch::jit::pickle_load, which reads beyond the end of a file that is cut.
    caffe2::serialize::PyTorchStreamReader file(&stream);
    return detail::read_state_dict(file, part);
  } catch (const c10::Error& error) {
    throw bad(error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw bad(error.what());
  }
}

}}  // namespace flowmatch
