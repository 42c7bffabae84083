#pragma once

#include <c10/util/Exception.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdint>
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <system_error>

#include "flowmatch/core/error.hpp"

namespace support {

/// Exit codes of the example programs; 130 stands for Ctrl-C, as shells have it.
enum ExitCode {
  success = 0,
  failure = 1,
  usage = 2,
  bad_data = 3,
  bad_checkpoint = 4,
  solver_failed = 5,
  interrupted = 130
};

/// A check for options that hold a 64-bit number without a sign: CLI11 would take -1 for the
/// largest of them, and the largest for whatever is larger.
inline std::string unsigned_number(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc{} && end == text.data() + text.size()) return "";
  return "'" + text + "' is no whole number from 0 to 18446744073709551615";
}

/// Runs a program's body and turns whatever it throws into one message on stderr and an exit code.
template <class Body>
int run_main(CLI::App& app, int argc, char** argv, Body body) {
  const auto report = [&](const char* message, int code) {
    std::cerr << app.get_name() << ": " << message << '\n';
    return code;
  };
  for (CLI::Option* option : app.get_options()) {
    if (option->get_type_name() == "UINT") option->check(unsigned_number);
    option->capture_default_str();  // --help shows what holds unless one says else
    if (option->get_default_str() == "\"\"") option->default_str("");
  }
  try {
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      const int code = app.exit(error);
      return code == 0 ? success : usage;
    }
    return body();
  } catch (const flowmatch::DataError& error) {
    return report(error.what(), bad_data);
  } catch (const flowmatch::CheckpointError& error) {
    return report(error.what(), bad_checkpoint);
  } catch (const flowmatch::SolverError& error) {
    return report(error.what(), solver_failed);
  } catch (const flowmatch::OptionError& error) {
    return report(error.what(), usage);
  } catch (const c10::Error& error) {
    return report(error.what_without_backtrace(), failure);
  } catch (const std::bad_alloc&) {
    return report("out of memory; choose a smaller batch or a smaller number of samples", failure);
  } catch (const std::exception& error) {
    return report(error.what(), failure);
  }
}

}  // namespace support
