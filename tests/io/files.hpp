#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

/// Files that Python wrote (tests/io/python).
inline const std::filesystem::path python = FLOWMATCH_SOURCE_DIR "/tests/io/python";

inline std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

/// Whether two tensors have the same dtype, sizes and bits: also of dtypes that at::equal does not
/// know, and of NaN.
inline bool same(const at::Tensor& a, const at::Tensor& b) {
  const auto bytes = [](const at::Tensor& t) {
    const at::Tensor c = t.contiguous();
    return std::string(static_cast<const char*>(c.const_data_ptr()), c.nbytes());
  };
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() && bytes(a) == bytes(b);
}
