#pragma once

#include <string>

#include "flowmatch/io/safetensors.hpp"
#include "tests/support/test.hpp"

/// What make.py has written of POT's and scipy's.
inline at::Tensor of_pot(const std::string& name) {
  return on_device::put(
      fm::load_safetensors(FLOWMATCH_SOURCE_DIR "/tests/coupling/pot/plans.safetensors")
          .tensors.at(name));
}
