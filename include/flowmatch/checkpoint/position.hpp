#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "flowmatch/core/error.hpp"
#include "flowmatch/core/random.hpp"
#include "flowmatch/data/batch_source.hpp"
#include "flowmatch/io/manifest.hpp"

namespace flowmatch { inline namespace v0 {

/// What a run trains on, in words that a checkpoint keeps.
template <BatchSource Source>
std::string data_text(Source& source) {
  if constexpr (RestartableSource<Source>) {
    return source.fingerprint();
  } else {
    return std::to_string(source.batches_per_epoch()) + " batches an epoch";
  }
}

/// Where a training run stands.
struct Position {
  std::int64_t step = 0;       ///< optimizer steps done
  std::int64_t epoch = 0;      ///< epochs done
  std::int64_t batch = 0;      ///< batches done in the epoch under way
  std::int64_t rollbacks = 0;  ///< returns to a checkpoint so far
  std::string data{};          ///< data_text of its source

  /// Writes it into a manifest.
  void describe(Manifest& manifest) const {
    manifest.set("step", step);
    manifest.set("epoch", epoch);
    manifest.set("batch", batch);
    manifest.set("rollbacks", rollbacks);
    manifest.set("data", data);
  }
  /// Throws CheckpointError.
  static Position from(const Manifest& manifest) {
    // The first checkpoints counted no rollbacks.
    const bool counted = manifest.contains("rollbacks");
    return {manifest.get_int("step"), manifest.get_int("epoch"), manifest.get_int("batch"),
            counted ? manifest.get_int("rollbacks") : 0, manifest.get("data")};
  }

  /// For what is drawn for the batch `ahead` of the next one, in epochs of `batches`. After a
  /// rollback the same noise would lead to the same fault.
  Rng rng(std::uint64_t seed, c10::Device device, std::int64_t batches, std::int64_t ahead) const {
    const auto k = static_cast<std::uint64_t>(epoch * batches + batch + ahead);
    const Rng rng = Rng(seed, device).fork("noise of a batch", k);
    return rollbacks == 0 ? rng
                          : rng.fork("after a rollback", static_cast<std::uint64_t>(rollbacks));
  }

  /// Throws OptionError where a run that has begun would go on with other data than `now`.
  void set_data(std::string now) {
    if (step > 0 && data != now) {
      throw OptionError("this run was begun with other data:\n  " + data + " before\n  " + now +
                        " now\ngive it the same data, order and batch size again, or start a new "
                        "run");
    }
    data = std::move(now);
  }
};

}}  // namespace flowmatch
