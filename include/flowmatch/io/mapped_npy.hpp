#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
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
/// Formats are those of load_npy. Sizes are checked against the file before anything else. Throws
/// DataError for a file that is missing, not usable, or whose values begin at an address that is no
/// multiple of their size (numpy.save pads the header to 64 bytes).
inline at::Tensor map_npy(const std::filesystem::path& path) {
  const SharedBytes bytes = map_file<DataError>(path);
  const NpyHeader header = parse_npy_header(bytes.view(), path.string());
  const at::TensorOptions options(detail::npy_dtypes[header.type]);
  if (header.values.empty()) return at::empty(header.shape, options);
  char* const values = bytes.data.get() + (header.values.data() - bytes.data.get());
  if ((values - bytes.data.get()) % static_cast<std::ptrdiff_t>(npy_types[header.type].bytes) !=
      0) {
    throw DataError(path.string() +
                    " cannot be mapped: its values are not aligned; write it anew with numpy.save");
  }
  return at::from_blob(
      values, header.shape, [keep = bytes.data](void*) {}, options);
}

}}  // namespace flowmatch
