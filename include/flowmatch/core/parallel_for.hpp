#pragma once

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace flowmatch { inline namespace v0 {

/// Calls work(0), …, work(count - 1), each once, on as many threads as LibTorch has
/// (at::get_num_threads); meanwhile each operation keeps to its caller's thread. They run under the
/// caller's gradient mode and autocast. The first exception ends it and is thrown on.
///
/// at::parallel_for is no help here: outside LibTorch's own build it runs on one thread, unless the
/// program is compiled with OpenMP, which would bring a second runtime beside the wheel's.
template <class F>
void parallel_for(std::int64_t count, const F& work) {
  const struct Threads {
    int before = at::get_num_threads();
    ~Threads() { at::set_num_threads(before); }
  } threads;
  const at::ThreadLocalState caller;
  std::atomic<std::int64_t> next = 0;
  std::mutex failing;
  std::exception_ptr failure;
  const auto worker = [&] {
    const at::ThreadLocalStateGuard same(caller);
    at::set_num_threads(1);
    try {
      for (std::int64_t i = next++; i < count; i = next++) work(i);
    } catch (...) {
      const std::lock_guard lock(failing);
      if (!failure) failure = std::current_exception();
      next = count;
    }
  };
  {
    std::vector<std::jthread> others;
    for (std::int64_t i = 1; i < std::min<std::int64_t>(threads.before, count); ++i)
      others.emplace_back(worker);
    worker();
  }
  if (failure) std::rethrow_exception(failure);
}

}}  // namespace flowmatch
