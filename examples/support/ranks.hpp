#pragma once

#include "flowmatch/core/error.hpp"
#include "flowmatch/parallel/c10d.hpp"
#include "flowmatch/parallel/communicator.hpp"
#include "flowmatch/parallel/rendezvous.hpp"

namespace support {

#ifdef USE_C10D_GLOO

using Ranks = flowmatch::C10dCommunicator;

/// Meets the other ranks where the environment says that there are some.
inline Ranks meet_ranks() {
  using flowmatch::Rendezvous;
  if (!Rendezvous::in_environment()) return {};
  return flowmatch::connect<c10d::ProcessGroupGloo>(Rendezvous::from_environment());
}

#else

using Ranks = flowmatch::SingleProcess;

inline Ranks meet_ranks() {
  if (flowmatch::Rendezvous::in_environment()) {
    throw flowmatch::OptionError(
        "WORLD_SIZE is set, but this program was built without Gloo; install its headers "
        "(Debian: libgloo-dev) and build again, or unset WORLD_SIZE");
  }
  return {};
}

#endif

}  // namespace support
