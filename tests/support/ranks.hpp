#pragma once

// Ranks of a distributed training in tests: threads of one process, or processes of their own.

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "tests/support/process.hpp"
#include "tests/support/test.hpp"

namespace ranks {

/// Ranks that are threads. Each exchange waits until all have come to it.
class Meeting {
 public:
  explicit Meeting(std::int64_t size) : size_(size) {}

  /// Adds up what the ranks bring and gives each the sum, or the first rank's tensor.
  void exchange(const at::Tensor& t, std::int64_t rank, bool sum) {
    std::unique_lock lock(mutex_);
    if (brought_.empty()) brought_.resize(static_cast<std::size_t>(size_));
    brought_[static_cast<std::size_t>(rank)] = t.clone();
    const std::int64_t round = round_;
    if (++arrived_ == size_) {
      result_ = brought_[0];
      for (std::size_t i = 1; sum && i < brought_.size(); ++i) result_ = result_ + brought_[i];
      arrived_ = 0;
      ++round_;
      ++exchanges;
      changed_.notify_all();
    }
    const bool met = changed_.wait_for(lock, std::chrono::seconds(20),
                                       [&] { return round_ != round || ended_; });
    if (!met || round_ == round) throw fm::CommunicationError("another rank has ended");
    t.copy_(result_);
  }
  void end() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }

  std::int64_t size() const { return size_; }
  std::int64_t exchanges = 0;  // to be read when all ranks have ended

 private:
  std::int64_t size_;
  std::mutex mutex_{};
  std::condition_variable changed_{};
  std::vector<at::Tensor> brought_{};
  at::Tensor result_{};
  std::int64_t arrived_ = 0;
  std::int64_t round_ = 0;
  bool ended_ = false;
};

/// A communicator among threads.
class ThreadRank {
 public:
  ThreadRank(Meeting& meeting, std::int64_t rank) : meeting_(&meeting), rank_(rank) {}

  struct Done {
    void wait() const {}
  };
  std::int64_t rank() const { return rank_; }
  std::int64_t size() const { return meeting_->size(); }
  Done all_reduce(const at::Tensor& t) const {
    meeting_->exchange(t, rank_, true);
    return {};
  }
  void broadcast(const at::Tensor& t) const { meeting_->exchange(t, rank_, false); }
  void barrier() const { meeting_->exchange(torch::zeros({1}), rank_, true); }

 private:
  Meeting* meeting_;
  std::int64_t rank_;
};

/// Runs body(communicator) on `size` threads and throws the first rank's exception on. Requirements
/// belong after it: Catch2 knows one thread.
template <class F>
std::vector<std::exception_ptr> run(std::int64_t size, const F& body) {
  Meeting meeting(size);
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(size));
  {
    std::vector<std::jthread> threads;
    for (std::int64_t rank = 0; rank < size; ++rank) {
      threads.emplace_back([&, rank] {
        at::set_num_threads(1);
        try {
          body(ThreadRank(meeting, rank));
        } catch (...) {
          errors[static_cast<std::size_t>(rank)] = std::current_exception();
          meeting.end();
        }
      });
    }
  }
  return errors;
}

/// The same, where no rank may fail.
template <class F>
void run_well(std::int64_t size, const F& body) {
  for (const std::exception_ptr& error : run(size, body)) {
    if (error) std::rethrow_exception(error);
  }
}

inline sockaddr_in local_address(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  return address;
}

/// A TCP port that was free a moment ago.
inline int free_port() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = local_address(0);
  socklen_t length = sizeof address;
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    throw std::runtime_error("no free port");
  }
  close(fd);
  return ntohs(address.sin_port);
}

/// Waits until something listens on a port.
inline void await_listener(int port) {
  const sockaddr_in address = local_address(port);
  for (int i = 0; i < 2000; ++i) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const bool open =
        ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    close(fd);
    if (open) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

/// Processes that run the test case under way again, as ranks; those that live still end with it.
class Processes {
 public:
  explicit Processes(int size, const std::string& phase = "") {
    const int port = free_port();
    for (int rank = 0; rank < size; ++rank) {
      ranks_.emplace_back(phase, std::vector<std::string>{"RANK=" + std::to_string(rank),
                                                          "WORLD_SIZE=" + std::to_string(size),
                                                          "MASTER_ADDR=127.0.0.1",
                                                          "MASTER_PORT=" + std::to_string(port)});
      // LibTorch pauses for seconds before it tries again where rank 0 is not there yet.
      if (rank == 0) await_listener(port);
    }
  }

  void send(std::size_t rank, int signal) const { ranks_[rank].send(signal); }
  /// The exit code, or minus the signal.
  int wait(std::size_t rank) { return ranks_[rank].wait(); }
  std::string output(std::size_t rank) const { return ranks_[rank].output(); }

 private:
  std::deque<Process> ranks_{};
};

}  // namespace ranks
