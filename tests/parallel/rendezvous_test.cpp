#include "flowmatch/parallel/rendezvous.hpp"

#include <cstdlib>
#include <map>
#include <string>

#include "tests/support/test.hpp"

namespace {

/// Environment variables, while it lives. An empty value unsets one.
class Environment {
 public:
  using Values = std::map<std::string, std::string>;
  explicit Environment(const Values& values) {
    const Values defaults{{"RANK", "1"},
                          {"WORLD_SIZE", "4"},
                          {"MASTER_ADDR", "node-1"},
                          {"MASTER_PORT", "1234"},
                          {"TORCHELASTIC_USE_AGENT_STORE", ""},
                          {"TORCHELASTIC_RESTART_COUNT", ""}};
    for (const auto& [name, value] : defaults) set(name, value);
    for (const auto& [name, value] : values) set(name, value);
  }
  ~Environment() {
    for (const auto& [name, value] : before_) put(name, value);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  void set(const std::string& name, const std::string& value) {
    const char* old = std::getenv(name.c_str());
    before_.emplace(name, old == nullptr ? "" : old);
    put(name, value);
  }
  static void put(const std::string& name, const std::string& value) {
    if (value.empty()) {
      unsetenv(name.c_str());
    } else {
      setenv(name.c_str(), value.c_str(), 1);
    }
  }
  std::map<std::string, std::string> before_{};
};

void refused(const std::map<std::string, std::string>& values, const std::string& part) {
  const Environment environment(values);
  INFO(part);
  require_error<fm::OptionError>([] { fm::Rendezvous::from_environment(); }, part);
}

}  // namespace

TEST_CASE("rendezvous: it is read from the four variables") {
  const Environment environment(Environment::Values{});
  REQUIRE(fm::Rendezvous::in_environment());
  const auto r = fm::Rendezvous::from_environment(std::chrono::seconds(7));
  REQUIRE(r.rank == 1);
  REQUIRE(r.size == 4);
  REQUIRE(r.address == "node-1");
  REQUIRE(r.port == 1234);
  REQUIRE(r.timeout.count() == 7);
  REQUIRE(!r.store_is_there);
  const Environment torchrun(Environment::Values{{"TORCHELASTIC_USE_AGENT_STORE", "True"},
                                                 {"TORCHELASTIC_RESTART_COUNT", "3"}});
  REQUIRE(fm::Rendezvous::from_environment().store_is_there);
  REQUIRE(fm::Rendezvous::from_environment().attempt == "3");
}

TEST_CASE("rendezvous: without WORLD_SIZE a process is alone") {
  const Environment environment(Environment::Values{{"WORLD_SIZE", ""}});
  REQUIRE(!fm::Rendezvous::in_environment());
}

TEST_CASE("rendezvous: missing and senseless variables are named") {
  for (const std::string name : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"})
    refused({{name, ""}}, "variable " + name + " is not set");
  refused({{"RANK", "-1"}}, "RANK is '-1'");
  refused({{"RANK", "4"}}, "the rank is 4 in a world of 4; number the ranks 0 to 3");
  refused({{"RANK", "one"}}, "RANK is 'one'");
  refused({{"RANK", "1x"}}, "RANK is '1x'");
  refused({{"WORLD_SIZE", "0"}}, "WORLD_SIZE is '0'");
  refused({{"WORLD_SIZE", "99999999999999999999"}}, "WORLD_SIZE is");
  refused({{"MASTER_PORT", "65536"}},
          "MASTER_PORT is '65536'; give a whole number from 1 to 65535");
  refused({{"MASTER_PORT", " 80"}}, "MASTER_PORT is ' 80'");
}

TEST_CASE("rendezvous: settings made by hand are checked too") {
  const auto refuse = [](fm::Rendezvous r, const std::string& part) {
    require_error<fm::OptionError>([&] { r.validate(); }, part);
  };
  fm::Rendezvous{}.validate();
  refuse({.size = 0}, "world size is 0");
  refuse({.rank = 2, .size = 2}, "rank is 2");
  refuse({.address = ""}, "address is empty");
  refuse({.port = 0}, "port is 0");
  refuse({.timeout = std::chrono::seconds(0)}, "wait 0 s");
}
