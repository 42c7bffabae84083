#pragma once

#include <ATen/ThreadLocalState.h>
#include <c10/core/Device.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

#include "flowmatch/core/condition.hpp"
#include "flowmatch/core/error.hpp"
#include "flowmatch/data/batch_source.hpp"

namespace flowmatch { inline namespace v0 {

/// A source whose batches are made ahead, on a thread of its own: `Prefetch(TensorBatches(…))`.
/// Batches, their order and the place to start at are the source's; it is restartable where the
/// source is.
///
/// With a `device` they are moved there on that thread, too: from the CPU to a GPU through pinned
/// memory, so that training never waits for the copy.
///
/// At most `depth` batches wait or are in the making. What the source throws comes out of `next()`
/// after the batches before it. `start_epoch`, and the end of a Prefetch, wait for the batch in the
/// making. Between two epochs nothing is made ahead.
///
/// The source is kept (move it in) and used by one thread at a time; what it shares with others
/// must not be written meanwhile. Throws OptionError for a depth below 1.
template <BatchSource Source>
class Prefetch {
 public:
  /// The condition that its batches have.
  using condition_type = typename Source::condition_type;

  /// Keeps at most `depth` batches ready, on `device` where one is given.
  explicit Prefetch(Source source, std::int64_t depth = 2, std::optional<c10::Device> device = {})
      : worker_(std::make_unique<Worker>(std::move(source), depth, device)) {}

  /// The source's.
  std::int64_t batches_per_epoch() const { return worker_->batches_per_epoch; }

  /// Begins an epoch; its thread starts to work.
  void start_epoch(std::int64_t epoch) {
    worker_->start([&](Source& source) { source.start_epoch(epoch); });
  }
  /// Begins an epoch at batch `batch`.
  void start_epoch(std::int64_t epoch, std::int64_t batch) requires RestartableSource<Source> {
    worker_->start([&](Source& source) { source.start_epoch(epoch, batch); });
  }

  /// The next batch of the epoch, waited for where it is not ready; none at its end. Throws what
  /// the source threw.
  std::optional<Batch<condition_type>> next() { return worker_->next(); }

  /// The source's.
  std::string fingerprint() const requires RestartableSource<Source> {
    return worker_->fingerprint;
  }

 private:
  // At one address while the Prefetch itself may move.
  struct Worker {
    Worker(Source s, std::int64_t d, std::optional<c10::Device> to)
        : source(std::move(s)), depth(static_cast<std::size_t>(d)), device(to) {
      if (d < 1)
        throw OptionError("a prefetch depth of " + std::to_string(d) + "; choose at least 1");
      batches_per_epoch = source.batches_per_epoch();
      if constexpr (RestartableSource<Source>) fingerprint = source.fingerprint();
    }

    template <class Begin>
    void start(Begin begin) {
      thread = {};  // stops and joins the one before: from here on the source is this thread's
      ready.clear();
      failure = nullptr;
      ended = true;  // should the source refuse to begin
      begin(source);
      ended = false;
      thread = std::jthread([this, caller = at::ThreadLocalState()](const std::stop_token& stop) {
        const at::ThreadLocalStateGuard same(caller);  // gradient mode and the like
        run(stop);
      });
    }

    void run(const std::stop_token& stop) {
      std::exception_ptr thrown;
      try {
        while (wait_for_room(stop)) {
          std::optional<Batch<condition_type>> batch = source.next();
          if (!batch) break;
          if (device) batch = to_device(*batch, *device);
          const std::lock_guard lock(mutex);
          ready.push_back(std::move(*batch));
          changed.notify_all();
        }
      } catch (...) {
        thrown = std::current_exception();
      }
      const std::lock_guard lock(mutex);
      failure = thrown;
      ended = true;
      changed.notify_all();
    }

    bool wait_for_room(const std::stop_token& stop) {
      std::unique_lock lock(mutex);
      return changed.wait(lock, stop, [&] { return ready.size() < depth; }) &&
             !stop.stop_requested();
    }

    std::optional<Batch<condition_type>> next() {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return ended || !ready.empty(); });
      if (ready.empty()) {
        if (failure) std::rethrow_exception(failure);
        return std::nullopt;
      }
      std::optional<Batch<condition_type>> batch(std::move(ready.front()));
      ready.pop_front();
      changed.notify_all();
      return batch;
    }

    Source source;
    std::size_t depth;
    std::optional<c10::Device> device;
    std::int64_t batches_per_epoch = 0;
    std::string fingerprint{};

    std::mutex mutex{};  // guards what follows
    std::condition_variable_any changed{};
    std::deque<Batch<condition_type>> ready{};
    bool ended = true;
    std::exception_ptr failure{};

    std::jthread thread{};  // last, so that it ends first
  };

  std::unique_ptr<Worker> worker_;
};

}}  // namespace flowmatch
