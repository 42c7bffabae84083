#pragma once

#include <ATen/Context.h>
#include <ATen/core/Generator.h>

#include <mutex>

#include "flowmatch/model/state_dict.hpp"

namespace flowmatch { inline namespace v0 {

/// The states of the default generators that a model on `device` may draw from.
inline StateDict generator_states(c10::Device device) {
  StateDict states;
  const auto add = [&](const char* name, c10::Device d) {
    at::Generator generator = at::globalContext().defaultGenerator(d);
    const std::lock_guard<std::mutex> lock(generator.mutex());
    states.insert(name, generator.get_state());
  };
  add("cpu", c10::kCPU);
  if (!device.is_cpu()) add("device", device);
  return states;
}

/// Puts back those of the `states` that are there.
inline void restore_generators(const StateDict& states, c10::Device device) {
  const auto restore = [&](const char* name, c10::Device d) {
    if (!states.contains(name)) return;
    at::Generator generator = at::globalContext().defaultGenerator(d);
    const std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(states.at(name));
  };
  restore("cpu", c10::kCPU);
  if (!device.is_cpu()) restore("device", device);
}

}}  // namespace flowmatch
