#pragma once

// Catch2, of Debian's 2.13 or of 3.x. Tests that use LibTorch include test.hpp instead.
#undef CHECK  // LibTorch's, where it came first
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;
using Catch::Matchers::ContainsSubstring;
#else
#include <catch2/catch.hpp>
inline auto ContainsSubstring(const std::string& part) { return Catch::Contains(part); }
#endif

#include <limits>
#include <string>

inline constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();
inline constexpr double infinity = std::numeric_limits<double>::infinity();

/// Requires that f() throws exactly an E whose message contains `part`.
template <class E, class F>
void require_error(F&& f, const std::string& part) {
  try {
    f();
  } catch (const E& error) {
    const std::string message = error.what();
    INFO("message: " << message);
    REQUIRE(message.find(part) != std::string::npos);
    return;
  }
  FAIL("nothing was thrown; expected a message with: " << part);
}
