#pragma once

#include <c10/core/Device.h>
#include <c10/util/Exception.h>

#include <exception>
#include <string>

// The CMake target defines it where it finds a LibTorch with CUDA and CUDA's headers.
#if defined(FLOWMATCH_CUDA)
#include <ATen/cuda/CUDAGeneratorImpl.h>  // CUDAGraph.h needs its types whole
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

#include "flowmatch/core/error.hpp"

namespace flowmatch { inline namespace v0 {

/// Work of a CUDA device that is recorded once and then done as often as wanted by one call, so
/// that the program does not hold the device up by giving it one small task after the other.
///
/// It works on the memory that it was recorded with: write new inputs into the same tensors, and
/// copy results out before the next `replay`. What was decided on the CPU while it was recorded
/// (shapes, branches, numbers) stays as it was; draws from the device's default
/// generator differ from replay to replay.
class CudaGraph {
 public:
#if defined(FLOWMATCH_CUDA)
  /// Whether this program was built with CUDA's headers.
  static constexpr bool available = true;

  /// Records what `f()` gives the device to do, without doing it. Let the same have run before, as
  /// libraries set themselves up in their first calls. Throws OptionError for what cannot be
  /// recorded: a wait for the device, a copy to the CPU, draws from a generator of its own.
  template <class F>
  CudaGraph(c10::Device device, const F& f) {
    const c10::cuda::CUDAGuard on(device);
    // A graph has memory of its own: what earlier work has left over would be held beside it.
    c10::cuda::CUDACachingAllocator::emptyCache();
    try {
      const c10::cuda::CUDAStreamGuard guard(
          c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index()));
      // Other threads, those that fetch data, may do as they like meanwhile.
      graph_.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
      try {
        f();
      } catch (...) {
        end_quietly();
        throw;
      }
      graph_.capture_end();
    } catch (const c10::Error& error) {
      throw OptionError(
          std::string("this work cannot be recorded as a CUDA graph: it waits for the device, "
                      "copies to the CPU or draws from a generator of its own; leave such things "
                      "out, or do without the graph (") +
          error.what_without_backtrace() + ")");
    }
  }

  /// Does the work once more, on the current stream. Does not wait for it.
  void replay() { graph_.replay(); }

 private:
  void end_quietly() noexcept {
    try {
      graph_.capture_end();
    } catch (const std::exception&) {  // what `f` threw is the error to hear of
    }
  }

  at::cuda::CUDAGraph graph_{};
#else
  static constexpr bool available = false;

  template <class F>
  CudaGraph(c10::Device, const F&) {
    throw OptionError(
        "this program was built without CUDA graphs: they need a LibTorch with CUDA and CUDA's "
        "headers (cuda_runtime_api.h), of which CMake says whether it has found them");
  }

  void replay() {}
#endif
};

}}  // namespace flowmatch
