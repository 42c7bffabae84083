#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace support {

/// A whole file in memory. Throws flowmatch::DataError where it can't be read or is larger than
/// `limit` bytes.
std::vector<std::byte> read_bytes(const std::filesystem::path& path, std::size_t limit);

/// Unpacks gzip data, checking its CRC and length, into at most `limit` bytes. `name` appears in
/// messages. Throws flowmatch::DataError for anything else than one or more whole gzip members;
/// what is unpacked grows with what comes out, whatever sizes the data claim.
std::vector<std::byte> gunzip(const std::vector<std::byte>& packed, std::size_t limit,
                              const std::string& name);

}  // namespace support
