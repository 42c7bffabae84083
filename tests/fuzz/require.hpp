#pragma once

#include <cstdlib>
#include <iostream>

/// What must hold of every input that a parser accepts; else the fuzzer keeps the input.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::cerr << "broken: " << what << '\n';
  std::abort();
}
