#include "examples/support/environment.hpp"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <sys/utsname.h>
#include <torch/version.h>

#include <ctime>
#include <fstream>
#include <sstream>
#include <string_view>
#include <thread>

#include "examples/support/gzip.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/version.hpp"

namespace support {

namespace {

constexpr std::string_view separator = ": ";

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0 && line.find(separator) != std::string::npos)
      return line.substr(line.find(separator) + separator.size());
  }
  return "unknown";
}

std::string compiler() {
#if defined(__clang__)
  return "Clang " __clang_version__;
#elif defined(__GNUC__)
  return "GCC " __VERSION__;
#else
  return "unknown";
#endif
}

std::string build() {
#if defined(__OPTIMIZE__)
  std::string how = "optimised";
#else
  std::string how = "not optimised";
#endif
#if defined(NDEBUG)
  return how + ", without assertions";
#else
  return how + ", with assertions";
#endif
}

std::string system_name() {
  utsname names{};
  if (uname(&names) != 0) return "unknown";
  return std::string(names.sysname) + " " + names.release + " " + names.machine;
}

std::string now() {
  const std::time_t seconds = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  const std::size_t length = std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts);
  return {text, length};
}

}  // namespace

std::string command_line(int argc, const char* const* argv) {
  constexpr std::string_view plain =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./=,:+@%";
  std::string line;
  for (int i = 0; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (i > 0) line += ' ';
    if (!word.empty() && word.find_first_not_of(plain) == std::string_view::npos) {
      line += word;
      continue;
    }
    line += '\'';
    for (const char c : word) {
      if (c == '\'') {
        line += "'\\''";
      } else {
        line += c == '\n' || c == '\r' ? ' ' : c;
      }
    }
    line += '\'';
  }
  return line;
}

Entries environment(c10::Device device) {
  const std::string version = std::to_string(FLOWMATCH_VERSION_MAJOR) + "." +
                              std::to_string(FLOWMATCH_VERSION_MINOR) + "." +
                              std::to_string(FLOWMATCH_VERSION_PATCH);
  return {{"started", now()},
          {"flowmatch", version},
          {"LibTorch", TORCH_VERSION},
          {"compiler", compiler()},
          {"build", build()},
          {"system", system_name()},
          {"processor", processor()},
          {"cores", std::to_string(std::thread::hardware_concurrency())},
          {"threads", std::to_string(at::get_num_threads())},
          {"instructions", at::get_cpu_capability()},
          {"device", device.str()}};
}

void append_entries(const std::filesystem::path& file, const Entries& entries) {
  std::ofstream out(file, std::ios::app);
  out << '\n';
  for (const auto& [name, value] : entries) out << name << separator << value << '\n';
  out.close();
  if (!out) {
    throw flowmatch::DataError("cannot write " + file.string() +
                               "; check the folder's permissions and the free space");
  }
}

std::vector<Entries> read_entries(const std::filesystem::path& file) {
  std::vector<Entries> blocks;
  std::error_code unreadable;  // read_bytes says so
  if (!std::filesystem::exists(file, unreadable)) return blocks;
  const std::vector<std::byte> bytes = read_bytes(file, std::size_t{1} << 24U);
  std::istringstream text(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  bool begin = true;
  for (std::string line; std::getline(text, line);) {
    const std::size_t at = line.find(separator);
    if (at == std::string::npos) {  // an empty line, or one that was cut
      begin = true;
      continue;
    }
    if (begin) blocks.emplace_back();
    begin = false;
    blocks.back().emplace_back(line.substr(0, at), line.substr(at + separator.size()));
  }
  return blocks;
}

}  // namespace support
