#pragma once

/// The library's version; CMake reads these three numbers, and nothing else states them.
#define FLOWMATCH_VERSION_MAJOR 0
#define FLOWMATCH_VERSION_MINOR 2
#define FLOWMATCH_VERSION_PATCH 0
