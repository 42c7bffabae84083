#pragma once

#include <filesystem>
#include <initializer_list>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"

/// Where programs write what they are asked for: looked at before the work, so that nothing that
/// lies there is lost.

namespace support {

/// The end of a file's name in small letters: `.png` of x.PNG, empty where it has none.
inline std::string extension_of(const std::filesystem::path& file) {
  std::string extension = file.extension().string();
  for (char& c : extension) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return extension;
}

/// Throws flowmatch::OptionError for a name whose extension is none of those known (of samples.npz,
/// say), unless it is that of a folder which is there.
inline void check_extension(const std::filesystem::path& out,
                            const std::vector<std::string>& known) {
  const std::string extension = extension_of(out);
  std::error_code none;
  if (extension.empty() || std::filesystem::is_directory(out, none)) return;
  std::string names;
  for (const std::string& name : known) {
    if (name == extension) return;
    names += name + ", ";
  }
  throw flowmatch::OptionError(out.string() + " would be a file of an unknown kind; choose " +
                               names + "or the name of a folder, without a dot");
}

/// Throws flowmatch::OptionError where two options, given by name, are the same path. Empty ones
/// are none.
inline void check_apart(
    std::initializer_list<std::pair<const char*, std::filesystem::path>> options) {
  namespace fs = std::filesystem;
  std::vector<std::pair<const char*, fs::path>> seen;
  for (const auto& [option, path] : options) {
    if (path.empty()) continue;
    std::error_code error;
    const fs::path absolute = fs::absolute(path, error);
    fs::path whole = fs::weakly_canonical(absolute, error);
    if (error) whole = absolute.lexically_normal();
    if (!whole.has_filename()) whole = whole.parent_path();  // a/b/ is a/b
    for (const auto& [other, taken] : seen) {
      if (taken == whole) {
        throw flowmatch::OptionError(std::string(other) + " and " + option + " are both " +
                                     path.string() + "; choose another path for one of them");
      }
    }
    seen.emplace_back(option, whole);
  }
}

}  // namespace support
