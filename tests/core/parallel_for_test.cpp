#include "flowmatch/core/parallel_for.hpp"

#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tests/support/test.hpp"

TEST_CASE("parallel_for: every piece of work is done once and the number of threads comes back") {
  const Threads two(2);
  std::vector<std::atomic<int>> done(100);
  fm::parallel_for(100, [&](std::int64_t i) { ++done[static_cast<std::size_t>(i)]; });
  for (const auto& times : done) CHECK(times == 1);
  CHECK(at::get_num_threads() == 2);
  fm::parallel_for(0, [](std::int64_t) { FAIL("there is nothing to do"); });
}

TEST_CASE("parallel_for: the work runs on several threads at once and single operations on one") {
  const Threads two(2);
  std::atomic<int> arrived = 0;
  std::atomic<int> threads_inside = 0;
  fm::parallel_for(2, [&](std::int64_t) {
    ++arrived;
    while (arrived < 2) std::this_thread::yield();  // a second thread must come, or this hangs
    threads_inside += at::get_num_threads();
  });
  CHECK(threads_inside == 2);
}

TEST_CASE("parallel_for: there are no more threads than LibTorch has") {
  const Threads two(2);
  std::mutex mutex;
  std::set<std::thread::id> threads;
  fm::parallel_for(8, [&](std::int64_t) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));  // long enough for others to come
    const std::lock_guard lock(mutex);
    threads.insert(std::this_thread::get_id());
  });
  CHECK(threads.size() == 2);
}

TEST_CASE("parallel_for: gradients are off in every thread where they are off for the caller") {
  const Threads two(2);
  std::atomic<int> with_gradients = 0;
  const auto count = [&](std::int64_t) { with_gradients += at::GradMode::is_enabled() ? 1 : 0; };
  fm::parallel_for(8, count);
  CHECK(with_gradients == 8);
  const at::NoGradGuard no_grad;
  fm::parallel_for(8, count);
  CHECK(with_gradients == 8);
}

TEST_CASE("parallel_for: an exception ends the work and reaches the caller") {
  const Threads two(2);
  std::atomic<int> done = 0;
  CHECK_THROWS_AS(fm::parallel_for(1000,
                                   [&](std::int64_t i) {
                                     if (i == 3) throw std::runtime_error("three");
                                     ++done;
                                   }),
                  std::runtime_error);
  CHECK(done < 1000);
  CHECK(at::get_num_threads() == 2);
}
