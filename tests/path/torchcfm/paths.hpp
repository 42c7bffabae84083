#pragma once

#include <string>

#include "flowmatch/core/types.hpp"
#include "flowmatch/io/safetensors.hpp"
#include "tests/support/test.hpp"

/// Calls f(x_0, x_1, t, epsilon, x_t, u_t, sigma) for what make.py has written of one of torchcfm's
/// methods, on test_device(); gives how often.
template <class F>
int for_each_of_torchcfm(const std::string& method, F f) {
  const auto all =
      fm::load_safetensors(FLOWMATCH_SOURCE_DIR "/tests/path/torchcfm/paths.safetensors").tensors;
  int calls = 0;
  for (const char* shape : {"0/", "1/", "2/", "3/"}) {
    for (const char* sigma : {"0.0", "0.0005", "0.5", "1.5"}) {
      const auto tensor = [&](const std::string& name) {
        return on_device::put(all.at(shape + name));
      };
      const std::string of = method + "/" + sigma;
      if (!all.contains(shape + of + "/x_t")) continue;
      INFO(shape << of);
      f(tensor("x_0"), tensor("x_1"), tensor("t"), tensor("epsilon"), tensor(of + "/x_t"),
        tensor(of + "/u_t"), std::stod(sigma));
      ++calls;
    }
  }
  return calls;
}
