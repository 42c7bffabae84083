#pragma once

// Optional: not part of flowmatch.hpp. LibTorch's wheels hold Gloo but not its headers; Debian's
// and Ubuntu's libgloo-dev brings those.
#if !defined(USE_C10D_GLOO) && __has_include(<gloo/transport/device.h>)
#define USE_C10D_GLOO
#endif

#include <c10/util/Exception.h>
#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <string>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <utility>
#include <vector>

#include "flowmatch/core/error.hpp"
#include "flowmatch/parallel/communicator.hpp"
#include "flowmatch/parallel/rendezvous.hpp"

namespace flowmatch { inline namespace v0 {

namespace detail {

/// Does something with other ranks, and says in a CommunicationError what became of them.
template <class F>
auto with_ranks(std::int64_t rank, const char* doing, const F& f) {
  const auto lost = [&](const std::string& why) {
    return CommunicationError(
        text_of("rank ", rank, " lost the others while ", doing,
                ": one of them has ended, or did not answer within the time limit; its own output "
                "says why. Start all ranks again from the last checkpoint. (",
                why, ")"));
  };
  try {
    return f();
  } catch (const c10::Error& error) {
    throw lost(error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw lost(error.what());
  }
}

}  // namespace detail

/// Ranks that talk through a backend of LibTorch's c10d: Gloo (CPU), NCCL (CUDA, in builds that
/// have it) or any other. Copies talk through the same one. A default-constructed one is a single
/// process.
class C10dCommunicator {
 public:
  /// A sum under way.
  class Pending {
   public:
    /// `work` in flight, of this rank.
    Pending(std::int64_t rank, c10::intrusive_ptr<c10d::Work> work)
        : rank_(rank), work_(std::move(work)) {}
    /// Returns when the sum is there. Throws CommunicationError where another rank is lost.
    void wait() {
      if (work_) detail::with_ranks(rank_, "summing", [&] { work_->wait(); });
    }

   private:
    std::int64_t rank_;
    c10::intrusive_ptr<c10d::Work> work_;
  };

  C10dCommunicator() = default;
  /// By c10d's backend.
  explicit C10dCommunicator(c10::intrusive_ptr<c10d::Backend> backend)
      : backend_(std::move(backend)) {}

  /// This process, from 0.
  std::int64_t rank() const { return backend_ ? backend_->getRank() : 0; }
  /// How many processes there are.
  std::int64_t size() const { return backend_ ? backend_->getSize() : 1; }

  /// Begins to sum t over all ranks, in place.
  Pending all_reduce(const at::Tensor& t) const {
    if (!backend_) return {0, {}};
    std::vector<at::Tensor> tensors{t};
    return {rank(),
            detail::with_ranks(rank(), "summing", [&] { return backend_->allreduce(tensors); })};
  }
  /// Gives t of rank 0 to all.
  void broadcast(const at::Tensor& t) const {
    if (!backend_) return;
    std::vector<at::Tensor> tensors{t};
    detail::with_ranks(rank(), "broadcasting", [&] { backend_->broadcast(tensors)->wait(); });
  }
  /// Returns when all ranks are here.
  void barrier() const {
    if (backend_)
      detail::with_ranks(rank(), "waiting for all", [&] { backend_->barrier()->wait(); });
  }

 private:
  c10::intrusive_ptr<c10d::Backend> backend_;
};

/// Meets the other ranks and gives the communicator of a c10d process group:
/// `connect<c10d::ProcessGroupGloo>(Rendezvous::from_environment())`, or
/// `connect<c10d::ProcessGroupNCCL>` where that header is included, after the rank's device was
/// set. Alone (size 1) it opens nothing.
///
/// Throws OptionError for a senseless rendezvous, CommunicationError where the others do not come
/// within its time limit. The same limit holds for every exchange later: a rank that waits longer,
/// or whose connection to another breaks, gets a CommunicationError.
template <class ProcessGroup>
C10dCommunicator connect(const Rendezvous& r) {
  r.validate();
  if (r.size == 1) return {};
  try {
    c10d::TCPStoreOptions store_options;
    store_options.port = r.port;
    store_options.isServer = r.rank == 0 && !r.store_is_there;
    store_options.waitWorkers = false;  // its waiting keeps no time; the process group's does
    store_options.timeout = r.timeout;
    const auto store = c10::make_intrusive<c10d::PrefixStore>(
        "attempt " + r.attempt, c10::make_intrusive<c10d::TCPStore>(r.address, store_options));
    auto options = [&] {
      if constexpr (requires { ProcessGroup::Options::create_default(r.timeout); }) {
        return ProcessGroup::Options::create_default(r.timeout);
      } else {
        return ProcessGroup::Options::create();
      }
    }();
    options->timeout = r.timeout;
    return C10dCommunicator(c10::make_intrusive<ProcessGroup>(
        store, static_cast<int>(r.rank), static_cast<int>(r.size), std::move(options)));
  } catch (const std::exception& error) {
    const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
    throw CommunicationError(
        text_of("rank ", r.rank, " of ", r.size, " did not meet the others at ", r.address,
                " port ", r.port, " within ", r.timeout.count(),
                " s: check that all were started with the same MASTER_ADDR and MASTER_PORT, that "
                "the port is free on rank 0's machine and reachable from the others, and "
                "GLOO_SOCKET_IFNAME on machines with several networks. (",
                torch_error ? torch_error->what_without_backtrace() : error.what(), ")"));
  }
}

}}  // namespace flowmatch
