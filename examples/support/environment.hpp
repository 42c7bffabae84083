#pragma once

#include <c10/core/Device.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace support {

/// Names and values, in order.
using Entries = std::vector<std::pair<std::string, std::string>>;

/// A command line as a shell takes it, on one line.
std::string command_line(int argc, const char* const* argv);

/// What a program runs on: versions, compiler, threads, processor, system, device, time (UTC).
Entries environment(c10::Device device);

/// Adds entries to a file as a block of `name: value` lines behind an empty line, so that a run
/// that is resumed elsewhere keeps both. Throws flowmatch::DataError where it can't be written.
void append_entries(const std::filesystem::path& file, const Entries& entries);

/// The blocks of such a file, oldest first; none where there is no file. Throws
/// flowmatch::DataError for a file above 16 MiB.
std::vector<Entries> read_entries(const std::filesystem::path& file);

}  // namespace support
