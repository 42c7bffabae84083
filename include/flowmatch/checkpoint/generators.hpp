#pragma once

#include <ATen/Context.h>
#include <ATen/core/Generator.h>

#include <exception>
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

/// While it lives, others may draw from the default generators: it puts them back as they were.
class GeneratorsScope {
 public:
  /// Of the generators that a model on `device` may draw from.
  explicit GeneratorsScope(c10::Device device)
      : device_(device), before_(generator_states(device)) {}
  ~GeneratorsScope() {
    try {
      restore_generators(before_, device_);
    } catch (const std::exception&) {  // not here: an error may be under way
    }
  }
  GeneratorsScope(const GeneratorsScope&) = delete;
  GeneratorsScope& operator=(const GeneratorsScope&) = delete;

 private:
  c10::Device device_;
  StateDict before_;
};

}}  // namespace flowmatch
