#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <stop_token>
#include <thread>

namespace support {

namespace detail {
inline std::atomic<int> signals_seen{0};
static_assert(std::atomic<int>::is_always_lock_free,
              "a signal handler may touch lock-free atomics only");
inline void on_signal(int number) {
  // The second time the user means it.
  if (signals_seen.fetch_add(1) > 0) ::_exit(128 + number);
}
}  // namespace detail

/// While it lives, Ctrl-C and SIGTERM ask for a stop through a token instead of ending the program;
/// a second one ends it at once. A handler may not touch a stop_source, so a thread watches the
/// flag that the handler sets.
class StopOnSignal {
 public:
  StopOnSignal() {
    detail::signals_seen = 0;
    std::signal(SIGINT, detail::on_signal);
    std::signal(SIGTERM, detail::on_signal);
    watcher_ = std::jthread([this](const std::stop_token& ended) {
      while (!ended.stop_requested() && detail::signals_seen == 0)
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      if (detail::signals_seen > 0) source_.request_stop();
    });
  }
  ~StopOnSignal() {
    std::signal(SIGINT, SIG_DFL);
    std::signal(SIGTERM, SIG_DFL);
  }
  StopOnSignal(const StopOnSignal&) = delete;
  StopOnSignal& operator=(const StopOnSignal&) = delete;

  std::stop_token token() const { return source_.get_token(); }

 private:
  std::stop_source source_;
  std::jthread watcher_;
};

}  // namespace support
