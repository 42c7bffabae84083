#pragma once

#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <system_error>

#include "flowmatch/core/error.hpp"

namespace flowmatch { inline namespace v0 {

/// Where the ranks of a training meet, and how long they wait for one another.
struct Rendezvous {
  std::int64_t rank = 0;              ///< this process's number, in [0, size)
  std::int64_t size = 1;              ///< how many there are
  std::string address = "127.0.0.1";  ///< of the machine of rank 0
  std::uint16_t port = 29500;         ///< free there
  bool store_is_there = false;        ///< the launcher holds the store, rank 0 need not open it
  std::string attempt{};              ///< tells ranks that are started again from those before
  /// The longest that a rank waits for another, at the start and in every exchange.
  std::chrono::seconds timeout{300};

  /// Throws OptionError naming what is out of range.
  void validate() const {
    if (size < 1 || size > std::numeric_limits<int>::max())
      throw OptionError(text_of("the world size is ", size, "; choose at least 1"));
    if (rank < 0 || rank >= size) {
      throw OptionError(text_of("the rank is ", rank, " in a world of ", size,
                                "; number the ranks 0 to ", size - 1, ", each once"));
    }
    if (address.empty())
      throw OptionError("the master's address is empty; give the name of rank 0's machine");
    if (port == 0) throw OptionError("the master's port is 0; choose one that is free");
    if (timeout < std::chrono::seconds(1)) {
      throw OptionError(
          text_of("ranks wait ", timeout.count(), " s for one another; choose at least 1"));
    }
  }

  /// Whether the environment makes this process one of several ranks.
  static bool in_environment() { return std::getenv("WORLD_SIZE") != nullptr; }

  /// From RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun sets them, and Slurm scripts
  /// and shell loops can (docs/distributed.md). Throws OptionError naming the variable that is
  /// missing or senseless. `timeout`: how long ranks wait for one another.
  static Rendezvous from_environment(std::chrono::seconds timeout = std::chrono::seconds(300)) {
    Rendezvous r;
    r.timeout = timeout;
    r.rank = number("RANK", 0, std::numeric_limits<int>::max());
    r.size = number("WORLD_SIZE", 1, std::numeric_limits<int>::max());
    r.address = variable("MASTER_ADDR");
    r.port = static_cast<std::uint16_t>(number("MASTER_PORT", 1, 65535));
    // torchrun's own variables: its store outlives ranks that it starts again.
    const char* agent = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
    r.store_is_there = agent != nullptr && std::string(agent) == "True";
    if (const char* attempt = std::getenv("TORCHELASTIC_RESTART_COUNT")) r.attempt = attempt;
    r.validate();
    return r;
  }

 private:
  static std::string variable(const char* name) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') {
      throw OptionError(text_of("the environment variable ", name,
                                " is not set; a rank needs RANK, WORLD_SIZE, MASTER_ADDR and "
                                "MASTER_PORT, which torchrun sets"));
    }
    return value;
  }
  static std::int64_t number(const char* name, std::int64_t least, std::int64_t most) {
    const std::string text = variable(name);
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most) {
      throw OptionError(text_of("the environment variable ", name, " is '", text,
                                "'; give a whole number from ", least, " to ", most));
    }
    return value;
  }
};

}}  // namespace flowmatch
