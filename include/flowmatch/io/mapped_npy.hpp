#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>

#include <cstddef>
#include <filesystem>
#include <string>

#include "flowmatch/core/error.hpp"
#include "flowmatch/io/map_file.hpp"
#include "flowmatch/io/npy.hpp"
#include "flowmatch/io/npy_header.hpp"

namespace flowmatch { inline namespace v0 {

/// A .npy file as a tensor that is not read but mapped: the system fetches each page when it is
/// touched, and drops it again where memory is short, so that the file may be larger than memory.
/// `TensorBatches(map_npy("images.npy"), labels, 512)` reads what its batches select.
///
/// The mapping lives as long as a tensor that shares it. Writing to the tensor changes pages of
/// this process and never the file. For files in use nobody may write to or shorten; see map_file.
///
/// Formats are those of load_npy; a Fortran-ordered array is a transposed view. Sizes are checked
/// against the file before anything else. Throws DataError for a file that is missing, not usable,
/// big-endian, or whose values begin at an address that is no multiple of their size (numpy.save
/// pads the header to 64 bytes).
inline at::Tensor map_npy(const std::filesystem::path& path) {
  const SharedBytes bytes = map_file<DataError>(path);
  const NpyHeader header = parse_npy_header(bytes.view(), path.string());
  const auto cannot_be_mapped = [&](const char* why) {
    return DataError(path.string() + " cannot be mapped: its values are " + why +
                     "; write it anew with numpy.save, or use load_npy");
  };
  if (header.big_endian) throw cannot_be_mapped("big-endian");
  const auto view = [&](at::IntArrayRef shape, const at::TensorOptions& options) {
    char* const values = bytes.data.get() + (header.values.data() - bytes.data.get());
    if (static_cast<std::size_t>(values - bytes.data.get()) % npy_types[header.type].bytes != 0)
      throw cannot_be_mapped("not aligned");
    return at::from_blob(
        values, shape, [keep = bytes.data](void*) {}, options);
  };
  return detail::npy_tensor(header, path.string(), view);
}

}}  // namespace flowmatch
