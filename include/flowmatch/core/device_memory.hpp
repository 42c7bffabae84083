#pragma once

#include <c10/util/Exception.h>

#include <string>

#include "flowmatch/core/error.hpp"

namespace flowmatch { inline namespace v0 {

/// f(), with a MemoryError where LibTorch finds a device's memory used up: "the device has no
/// memory left for", then `what_and_remedy`.
template <class F>
decltype(auto) with_memory_for(const std::string& what_and_remedy, const F& f) {
  try {
    return f();
  } catch (const c10::OutOfMemoryError& error) {
    throw MemoryError("the device has no memory left for " + what_and_remedy + " (" +
                      error.what_without_backtrace() + ")");
  }
}

}}  // namespace flowmatch
