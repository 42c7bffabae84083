// Catch2's main function, where its package has no library with one.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
