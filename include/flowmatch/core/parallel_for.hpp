#pragma once

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace flowmatch { inline namespace v0 {

/// While it lives, each of LibTorch's operations keeps to its caller's thread, if it is to.
class OneThread {
 public:
  /// From here on, where `on` says so.
  explicit OneThread(bool on = true) : before_(on ? at::get_num_threads() : 0) {
    if (on) at::set_num_threads(1);
  }
  ~OneThread() {
    if (before_ > 0) at::set_num_threads(before_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

/// Threads that wait for work, so that none has to be started for each piece of it. Where
/// there is none for a fifth of a millisecond they sleep, where OpenMP's would spin far longer.
///
///     ThreadTeam team(at::get_num_threads());
///     team(parts, [&](std::int64_t i) { … });
///
/// A call does work(0), …, work(count - 1), each once, on the team's threads and the caller's;
/// meanwhile each of LibTorch's operations keeps to its caller's thread. They run under the
/// caller's gradient mode and autocast. The first exception ends it and is thrown on. One call at a
/// time.
///
/// at::parallel_for is no help here: outside LibTorch's own build it runs on one thread, unless the
/// program is compiled with OpenMP, which would bring a second runtime beside the wheel's.
class ThreadTeam {
 public:
  /// Of so many threads, the caller's among them.
  explicit ThreadTeam(std::int64_t threads) {
    for (std::int64_t i = 1; i < threads; ++i) others_.emplace_back([this] { serve(); });
  }
  ~ThreadTeam() {
    work_ = nullptr;
    ++call_;
    call_.notify_all();
  }
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  /// How many threads, the caller's among them.
  std::int64_t size() const noexcept { return static_cast<std::int64_t>(others_.size()) + 1; }

  /// Does `count` pieces of work.
  template <class F>
  void operator()(std::int64_t count, const F& work) {
    const OneThread each_operation;
    if (count < 2 || others_.empty()) {
      for (std::int64_t i = 0; i < count; ++i) work(i);
      return;
    }
    const at::ThreadLocalState caller;
    const std::function<void(std::int64_t)> each = [&](std::int64_t i) { work(i); };
    caller_ = &caller;
    work_ = &each;
    count_ = count;
    next_ = 0;
    failure_ = nullptr;
    busy_ = static_cast<std::int64_t>(others_.size());
    ++call_;
    call_.notify_all();
    take();
    wait_while(busy_, [](std::int64_t left) { return left > 0; });
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void serve() {
    at::set_num_threads(1);
    for (std::uint64_t seen = 0;; ++seen) {
      wait_while(call_, [&](std::uint64_t call) { return call == seen; });
      if (work_ == nullptr) return;
      {
        const at::ThreadLocalStateGuard same(*caller_);
        take();
      }
      if (--busy_ == 0) busy_.notify_one();
    }
  }

  // Looks for a while before it sleeps: to be woken takes longer than a small network's step.
  template <class T, class F>
  static void wait_while(const std::atomic<T>& value, const F& holds) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(200);
    while (holds(value)) {
      if (std::chrono::steady_clock::now() < until) continue;
      const T seen = value;
      if (holds(seen)) value.wait(seen);
    }
  }

  // Works until nothing is left.
  void take() {
    try {
      for (std::int64_t i = next_++; i < count_; i = next_++) (*work_)(i);
    } catch (...) {
      const std::lock_guard lock(failing_);
      if (!failure_) failure_ = std::current_exception();
      next_ = count_;
    }
  }

  std::atomic<std::uint64_t> call_ = 0;  // how many there were
  std::atomic<std::int64_t> next_ = 0;   // piece of work
  std::atomic<std::int64_t> busy_ = 0;   // threads that are still at this call
  std::int64_t count_ = 0;
  const std::function<void(std::int64_t)>* work_ = nullptr;
  const at::ThreadLocalState* caller_ = nullptr;
  std::mutex failing_;
  std::exception_ptr failure_;
  std::vector<std::jthread> others_;  // last, so that they end before the rest
};

/// Does `count` pieces of `work` as a team does, with threads of its own, as many as LibTorch has
/// (at::get_num_threads).
template <class F>
void parallel_for(std::int64_t count, const F& work) {
  ThreadTeam team(std::min<std::int64_t>(at::get_num_threads(), count));
  team(count, work);
}

}}  // namespace flowmatch
