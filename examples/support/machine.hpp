#pragma once

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/Device.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <limits>
#include <string>

#include "flowmatch/core/error.hpp"
#include "flowmatch/optim/precision.hpp"

namespace support {

/// Sets the number of threads (0: as many as cores), and keeps big blocks in the process: glibc
/// would otherwise give every step's activations back to the system and fetch them again (5 to 10 %
/// of a training step).
inline void set_up_machine(int threads) {
  if (threads < 0 || threads > 1024)
    throw flowmatch::OptionError("--threads is " + std::to_string(threads) +
                                 "; choose 1 to 1024, or 0 for all cores");
  if (threads > 0) at::set_num_threads(threads);
#if defined(__GLIBC__)
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
#endif
}

/// cpu, cuda or cuda:1. Throws OptionError for devices that are not here.
inline c10::Device parse_device(const std::string& name) {
  const auto none = [&](const std::string& why) {
    return flowmatch::OptionError("there is no device '" + name + "' here: " + why +
                                  "; choose cpu");
  };
  if (name == "cpu") return c10::kCPU;
  if (name.rfind("cuda", 0) != 0) throw none("only cpu, cuda and cuda:N are known");
  if (!at::globalContext().hasCUDA()) throw none("this LibTorch or machine has no CUDA");
  try {
    const c10::Device device(name);
    const int devices = static_cast<int>(at::detail::getCUDAHooks().deviceCount());
    if (device.index() >= devices)
      throw none("it has " + std::to_string(devices) + " CUDA devices");
    return c10::Device(c10::kCUDA, device.has_index() ? device.index() : c10::DeviceIndex{0});
  } catch (const c10::Error&) {
    throw none("cuda takes a number, as in cuda:0");
  }
}

/// float32, bfloat16 or float16. Throws OptionError for others.
inline flowmatch::Precision parse_precision(const std::string& name) {
  using flowmatch::Precision;
  for (const Precision each : {Precision::float32, Precision::bfloat16, Precision::float16}) {
    if (flowmatch::precision_text(each) == name) return each;
  }
  throw flowmatch::OptionError("there is no precision '" + name +
                               "'; choose float32, bfloat16 or float16");
}

/// The two options that say what a program runs on.
struct MachineOptions {
  int threads = 0;
  std::string device = "cpu";

  /// To a CLI::App.
  template <class App>
  void add_to(App& app) {
    app.add_option("--threads", threads, "CPU threads; 0 for all cores");
    app.add_option("--device", device, "cpu, cuda or cuda:N");
  }
  /// Sets the machine up and gives the device.
  c10::Device set_up() const {
    set_up_machine(threads);
    return parse_device(device);
  }
};

}  // namespace support
